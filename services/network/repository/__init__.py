"""The only SQL of the network service, by kind of resource."""
