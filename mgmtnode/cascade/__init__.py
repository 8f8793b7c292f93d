"""What a deletion does to the resources below: a graph built from declared references."""
