"""The edges of the core: time and randomness. (Database, Transport and Agents are ports too, beside their code.)

The core never reads a clock or a random source directly, so that a whole cluster can run in a deterministic
simulation.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall time, UTC. For people and for deadlines that survive a restart; never compared between machines."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, and that count while the machine sleeps."""
        ...


class Rng(Protocol):
    def bits(self, n: int) -> int:
        """``n`` random bits, fit for tokens."""
        ...

    def uniform(self, low: float, high: float) -> float: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class SystemRng:
    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def bits(self, n: int) -> int:
        return self._random.getrandbits(n)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class UuidSource:
    """Draws version 7 uuids (RFC 9562): they sort by the millisecond they were drawn in."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._clock, self._rng = clock, rng

    def draw(self) -> str:
        millis = int(self._clock.now().timestamp() * 1000) & (1 << 48) - 1
        rand = self._rng.bits(74)
        value = millis << 80 | 0x7 << 76 | (rand >> 62) << 64 | 0b10 << 62 | rand & (1 << 62) - 1
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
