"""L2 and L3 networks, ranges of addresses, and the NICs of VMs."""
