"""What is done to hosts in several steps."""
