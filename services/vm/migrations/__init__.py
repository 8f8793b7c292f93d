"""The revisions of the vm service's tables."""
