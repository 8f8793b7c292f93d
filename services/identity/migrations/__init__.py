"""The revisions of the identity service's tables."""
