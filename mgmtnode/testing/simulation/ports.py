"""Time and random numbers of a simulated node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from mgmtnode.testing.simulation.loop import VirtualLoop

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
UPTIME = 1_000_000.0  # the monotonic clock does not begin at zero, nor is it the one of the event loop


class VirtualClock:
    """The clock of one machine. Its wall clock may be wrong, and step: ``offset`` in seconds."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time() + self.offset)

    def monotonic(self) -> float:
        return self._loop.time() + UPTIME


class SeededRng:
    def __init__(self, seed: str) -> None:
        self._random = Random(seed)

    def bits(self, n: int) -> int:
        return self._random.getrandbits(n)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
