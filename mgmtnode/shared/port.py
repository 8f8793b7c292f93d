"""The Shared port: counters of all nodes together, and announcements to all of them.

    RedisShared    mgmtnode/shared/redis.py    where redis.url is set
    Alone          below                       everywhere else, and what the other one does while Redis is away

Every question may be answered with None: nobody knows, so the node goes by what it knows alone. Nothing raises, and
nothing takes longer than ANSWER_SECONDS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

ANSWER_SECONDS = 0.05

Heard = Callable[[str | None], None]
"""Hears an announcement; None: some may have been missed."""


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` in any ``seconds``."""

    limit: int
    seconds: int


class Shared(Protocol):
    async def start(self) -> None:
        """Returns at once, whether there is anybody to share with or not."""
        ...

    async def stop(self) -> None: ...

    async def take(self, key: str, window: Window) -> bool | None:
        """Counts one if it fits; False if it does not. For what happens often: a burst at the edge of two windows may
        be a little too small or too large."""
        ...

    async def note(self, key: str, window: Window) -> None:
        """Counts one, exactly."""
        ...

    async def full_for(self, key: str, window: Window) -> float | None:
        """Seconds until one more that is noted fits; 0 if it does now."""
        ...

    async def clear(self, key: str, window: Window) -> None:
        """Forgets what was noted."""
        ...

    def announce(self, channel: str, text: str) -> None:
        """Tells whoever listens on the other nodes; lost while Redis is away."""
        ...

    def listen(self, channel: str, heard: Heard) -> None:
        """Called before it starts. ``heard`` runs on the event loop, must not raise, and hears this node, too."""
        ...


class Alone:
    """Knows nothing of other nodes."""

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """Nothing was started."""

    async def take(self, key: str, window: Window) -> bool | None:
        return None

    async def note(self, key: str, window: Window) -> None:
        """Counts nothing."""

    async def full_for(self, key: str, window: Window) -> float | None:
        return None

    async def clear(self, key: str, window: Window) -> None:
        """Counted nothing."""

    def announce(self, channel: str, text: str) -> None:
        """Nobody listens."""

    def listen(self, channel: str, heard: Heard) -> None:
        """Nobody says anything."""
