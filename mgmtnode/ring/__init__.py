"""Which node works on which resource."""
