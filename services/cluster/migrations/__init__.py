"""The revisions of the cluster service's tables."""
