"""Programs that are compared. They run as scripts, each in its own environment; only ``messages`` is imported."""
