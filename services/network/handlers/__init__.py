"""What the network service handles, by kind of resource."""
