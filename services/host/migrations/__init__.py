"""The revisions of the host service's tables."""
