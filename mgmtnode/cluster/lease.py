"""The lease: how long this node may act without having heard from the database that it still belongs to the cluster.

It gives liveness only. That an evicted node's work is refused is the business of epochs and fences; the lease merely
keeps it from trying.
"""

from __future__ import annotations

import asyncio
import logging

from mgmtnode.jobs.repository import Fenced
from mgmtnode.ports import Clock

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
STALE_SECONDS = 6.0  # a node whose heartbeat has not moved for so long may be evicted
FENCE_SECONDS = 5.0  # counted from when the renewal was sent, so that it ends before anybody may evict
FOREVER = float("inf")


class Lease:
    """``renewed`` and ``lose`` are called on the event loop. ``forever``: the only node there can be needs no lease."""

    def __init__(self, clock: Clock, *, forever: bool = False) -> None:
        self._clock = clock
        self._until = FOREVER if forever else -FOREVER
        self._waiting: list[asyncio.Future[None]] = []
        self.lost = asyncio.Event()

    @property
    def valid(self) -> bool:
        return not self.lost.is_set() and self._clock.monotonic() < self._until

    @property
    def left(self) -> float:
        """Seconds until this node stops acting; 0 when it has."""
        return 0.0 if self.lost.is_set() else max(0.0, self._until - self._clock.monotonic())

    def renewed(self, sent_at: float) -> None:
        """The database said, some time after ``sent_at`` (monotonic), that this node belongs to the cluster."""
        self._until = max(self._until, sent_at + FENCE_SECONDS)
        self._wake()

    def lose(self) -> None:
        """Another node took over from this one, for good."""
        if not self.lost.is_set():
            log.error("this node was evicted from the cluster, or another one runs under its name: stopping")
            self.lost.set()
            self._wake()

    async def gate(self) -> None:
        """Returns at once while the lease holds, otherwise when it holds again. Raises Fenced after an eviction."""
        while not self.valid:
            if self.lost.is_set():
                raise Fenced
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
