"""Visiting many things again and again, each at its own time, so many at once, with one idle task."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context

from mgmtnode.errors import ApiError

log = logging.getLogger(__name__)

AFTER_FAULT = 60.0  # seconds before a visit that raised is tried again
AFTER_OUTAGE = (
    2.0  # the same if only the database was away: that a host is back must not take a minute to be seen
)


class Rounds:
    """``visit(key)`` answers in how many seconds it wants to be called again, or None to be dropped. What
    waits costs one entry of a heap; only visits in progress are tasks. Times are the event loop's."""

    def __init__(
        self, visit: Callable[[str], Awaitable[float | None]], parallelism: Callable[[], int]
    ) -> None:
        self._visit, self._parallelism = visit, parallelism
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._visiting: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._due) + len(self._visiting)

    def __contains__(self, key: str) -> bool:
        return key in self._due or key in self._visiting

    def __iter__(self) -> Iterator[str]:
        return iter([*self._due, *self._visiting])

    @property
    def visiting(self) -> int:
        """How many visits are in progress."""
        return len(self._visiting)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="rounds", context=Context())

    async def stop(self) -> None:
        """Ends the visits in progress, too."""
        tasks = [*self._visiting.values(), *([self._task] if self._task else [])]
        self._due.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, key: str, delay: float) -> None:
        """Visits ``key`` in ``delay`` seconds and from then on; one that is in already is left as it is."""
        if key not in self:
            self._at(key, asyncio.get_running_loop().time() + delay)

    def poke(self, key: str) -> None:
        """Visits ``key`` now, or once more right after the visit in progress. Unknown keys are ignored."""
        if key in self._visiting:
            self._again.add(key)
        elif key in self._due:
            self._at(key, asyncio.get_running_loop().time())

    def within(self, seconds: Callable[[], float]) -> None:
        """Brings each visit that is not due before ``seconds()`` forward to then; it is asked for each key."""
        now = asyncio.get_running_loop().time()
        for key, due in list(self._due.items()):
            if (sooner := now + seconds()) < due:
                self._at(key, sooner)

    def remove(self, key: str) -> None:
        self._due.pop(key, None)
        self._again.discard(key)
        if task := self._visiting.pop(key, None):
            task.cancel()

    def _at(self, key: str, due: float) -> None:
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        if self._heap[0] == (due, key):
            self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause = self._begin_due()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _begin_due(self) -> float | None:
        """Starts what is due, as far as allowed. Answers how long to wait then; None: until told."""
        loop, limit = asyncio.get_running_loop(), max(1, self._parallelism())
        while self._heap:
            due, key = self._heap[0]
            if self._due.get(key) != due:  # it was moved or removed since
                heapq.heappop(self._heap)
            elif due > loop.time():
                return due - loop.time()
            elif len(self._visiting) >= limit:
                return None
            else:
                heapq.heappop(self._heap)
                del self._due[key]
                self._visiting[key] = loop.create_task(self._one(key), context=Context())
        return None

    async def _one(self, key: str) -> None:
        pause: float | None = AFTER_FAULT
        try:
            pause = await self._visit(key)
        except ApiError as error:
            log.warning("a visit to %s was not possible: %s", key, error)
            pause = AFTER_OUTAGE if error.problem.retryable else AFTER_FAULT
        except Exception:
            log.exception("a visit to %s failed", key)
        if self._visiting.get(key) is not asyncio.current_task():
            return  # removed, and perhaps added anew, in between
        del self._visiting[key]
        if key in self._again:
            self._again.discard(key)
            pause = 0.0
        if pause is not None:
            self._at(key, asyncio.get_running_loop().time() + pause)
        self._wake.set()
