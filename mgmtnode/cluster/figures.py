"""What a node shows of its part in the cluster as metrics."""

from __future__ import annotations

from collections import Counter

from mgmtnode.cluster.membership import Membership
from mgmtnode.cluster.rebalance import Rebalancer
from mgmtnode.ring.slots import Slots
from mgmtnode.telemetry import families
from mgmtnode.telemetry.metrics import Metrics


def show(metrics: Metrics, slots: Slots, membership: Membership, rebalancer: Rebalancer) -> None:
    metrics.read(families.NODES, lambda: Counter(lease.state.value for lease in membership.beat.leases))
    metrics.read(families.LEASE_LEFT, lambda: membership.lease.left)
    metrics.read(families.EVICTIONS, lambda: membership.evictions)
    metrics.read(families.SLOTS_OWNED, lambda: len(slots.own_slots()))
    metrics.read(
        families.SLOTS_MOVED, lambda: {"handed-over": rebalancer.handed_over, "taken": rebalancer.taken}
    )
    metrics.read(families.RING_VERSION, lambda: slots.version)
