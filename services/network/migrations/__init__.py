"""The revisions of the network service's tables."""
