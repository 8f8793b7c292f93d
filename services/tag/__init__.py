"""Tags on resources."""
