"""The revisions of the allocator service's tables."""
