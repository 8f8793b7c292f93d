"""What the cluster part of a node shows as metrics."""

from __future__ import annotations

from collections import Counter

from mgmtnode.cluster.listeners import Listeners
from mgmtnode.cluster.membership import Membership
from mgmtnode.cluster.rebalance import Rebalancer
from mgmtnode.telemetry import families
from mgmtnode.telemetry.metrics import Metrics


def show(metrics: Metrics, membership: Membership, listeners: Listeners, rebalancer: Rebalancer) -> None:
    metrics.read(families.NODES, lambda: Counter(str(lease.state) for lease in membership.beat.leases))
    metrics.read(families.LEASE_SECONDS, lambda: membership.lease_age(membership.me.name))
    metrics.read(families.EVICTIONS, lambda: membership.evictions)
    metrics.read(families.SLOTS_MOVED, lambda: {"gained": listeners.gained, "lost": listeners.lost})
    metrics.read(families.SLOTS_OVERDUE, lambda: rebalancer.taken)
