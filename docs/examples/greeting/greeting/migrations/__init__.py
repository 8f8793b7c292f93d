"""The revisions of the greeting service's table."""
