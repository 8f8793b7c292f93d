"""The nodes of the cluster, shown to operators."""
