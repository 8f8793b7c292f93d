"""The revisions of the offering service's tables."""
