"""How late the event loop is: the first sign of a handler that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL = 0.25


class LoopLag:
    """Runs a timer and tells ``report`` how late it fired, in seconds. ``latest`` is the last such figure."""

    def __init__(self, report: Callable[[float], None] = lambda _: None, interval: float = INTERVAL) -> None:
        self._report, self._interval = report, interval
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.latest = 0.0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        if self._handle:
            self._handle.cancel()
            self._handle = None

    @property
    def now(self) -> float:
        """The lag that can be told this moment: the last one, or that of a timer that is overdue."""
        return max(self.latest, self._loop.time() - self._due) if self._handle else self.latest

    def _arm(self) -> None:
        self._due = self._loop.time() + self._interval
        self._handle = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self.latest = max(0.0, self._loop.time() - self._due)
        self._report(self.latest)
        self._arm()
