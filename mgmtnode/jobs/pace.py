"""How many jobs begin at once: what waits to be accepted goes before what waits to begin.

A client waits for the acceptance of a job; the job itself was promised for later. Those that have begun go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

MOST = 32  # claims at once; more would only wait for a connection to the database, before everybody else
WHILE_BUSY = 2  # while requests wait to be accepted: few, and never none


class Pace:
    """``async with`` it around the beginning of a job. ``busy``: requests wait to be accepted."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._inside = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if not self._queue and self._inside < self._limit():
            self._inside += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # it had come
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _limit(self) -> int:
        return WHILE_BUSY if self._busy() else MOST

    def _leave(self) -> None:
        """Whoever waits is let in by who leaves: somebody is inside as long as anybody waits."""
        self._inside -= 1
        while self._queue and self._inside < self._limit():
            turn = self._queue.popleft()
            if not turn.done():
                self._inside += 1
                turn.set_result(None)
