"""Who of the other nodes has stood still: counted on this node's own clock, so that no two clocks are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mgmtnode.cluster.lease import BEAT_SECONDS, STALE_SECONDS
from mgmtnode.cluster.records import Beat, LeaseRow

GONE_SECONDS = 2.0  # the same for a node whose connection, which held its lock, has ended
GAP_SECONDS = 3 * BEAT_SECONDS  # a longer pause between our own beats, and we do not trust what we saw before
YOUNG_SECONDS = 10.0  # after the start of the database server its nodes may not all have come back


@dataclass(slots=True)
class Still:
    """The last movement seen of one incarnation of a node, and when."""

    incarnation: int
    hb_seq: int
    since: float


class Observer:
    """``seen`` is told of each beat that succeeded."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._others: dict[str, Still] = {}
        self._last = self._good_since = float("-inf")

    def seen(self, now: float, beat: Beat) -> list[LeaseRow]:
        """The nodes to be evicted. ``now``: monotonic, when the beat was answered."""
        if now - self._last > GAP_SECONDS:
            self._good_since = now
            self._others.clear()
        self._last = now
        others = [lease for lease in beat.leases if lease.name != self._me]
        self._follow(now, others)
        if now - self._good_since < STALE_SECONDS:
            return []
        patience = 2.0 if self._mostly_still(now, others) else 1.0
        return [lease for lease in others if self.age(now, lease.name) >= patience * _limit(lease, beat)]

    def age(self, now: float, name: str) -> float:
        """Seconds since the node was seen to move; 0 for one that was not looked at yet."""
        still = self._others.get(name)
        return 0.0 if still is None else now - still.since

    def _follow(self, now: float, others: Sequence[LeaseRow]) -> None:
        before, self._others = self._others, {}
        for lease in others:
            still = before.get(lease.name)
            if still is None or (still.incarnation, still.hb_seq) != (lease.incarnation, lease.hb_seq):
                still = Still(lease.incarnation, lease.hb_seq, now)
            self._others[lease.name] = still

    def _mostly_still(self, now: float, others: Sequence[LeaseRow]) -> bool:
        """Whether more than half of the nodes look dead: more likely something else is wrong."""
        still = sum(self.age(now, lease.name) >= GONE_SECONDS for lease in others)
        return 2 * still > len(others) + 1


def _limit(lease: LeaseRow, beat: Beat) -> float:
    return STALE_SECONDS if lease.locked or beat.server_age < YOUNG_SECONDS else GONE_SECONDS
