"""What tests of the product and of third-party services stand on: servers, booted nodes, fixtures."""
