"""Global configs and their overrides."""
