"""A cluster on this machine, in processes: what ``mgmtnode dev --nodes``, cluster tests, chaos and benchmarks start."""

from mgmtnode.testing.local_cluster.cluster import LocalCluster, NodeProcess

__all__ = ["LocalCluster", "NodeProcess"]
