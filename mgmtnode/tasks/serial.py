"""Queues by key: at most ``level`` holders of one key at a time, the others wait in the order they came."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from mgmtnode.errors import OVERLOADED, TIMEOUT
from mgmtnode.ports import Clock

MAX_WAITING = 1000
Level = int | Callable[[], int]


@dataclass(frozen=True, slots=True)
class QueueState:
    """One key as an operator sees it. ``oldest`` is the age in seconds of whoever came first and is still
    there."""

    key: str
    level: int
    running: int
    waiting: int
    oldest: float


@dataclass(slots=True)
class Load:
    """All queues of one kind added up. ``oldest``: how long who waits longest has waited, in seconds."""

    running: int = 0
    waiting: int = 0
    oldest: float = 0.0


class SerialQueues:
    """A queue exists while somebody holds or waits for its key. Waiting costs a future, not a task.

    ``async with queues.hold("vm:1")`` raises ``core.overloaded`` when ``max_waiting`` wait already and
    ``core.timeout`` when ``deadline`` (on the clock's monotonic time) passes first.
    """

    def __init__(self, clock: Clock, max_waiting: int = MAX_WAITING) -> None:
        self._clock, self._max_waiting = clock, max_waiting
        self._queues: dict[str, _Queue] = {}

    def hold(self, key: str, level: Level = 1, deadline: float | None = None) -> Hold:
        """The right to work under ``key``. A callable ``level`` is asked when the wait begins; the newest one
        counts."""
        return Hold(self, key, level, deadline)

    def snapshot(self) -> list[QueueState]:
        now = self._clock.monotonic()
        return [queue.state(now) for queue in self._queues.values()]

    def loads(self) -> dict[str, Load]:
        """By kind: what stands before the colon of a key. The rest of it is without bound."""
        now, found = self._clock.monotonic(), dict[str, Load]()
        for key, queue in self._queues.items():
            kind, colon, _ = key.partition(":")
            load = found.setdefault(kind if colon else "other", Load())
            load.running += len(queue.running)
            load.waiting += len(queue.waiting)
            for first in queue.waiting:
                load.oldest = max(load.oldest, now - first.since)
                break
        return found

    def __len__(self) -> int:
        return len(self._queues)

    def _enter(self, hold: Hold) -> asyncio.Future[None] | None:
        """None: it is ours. Otherwise what to wait for."""
        queue = self._queues.get(hold.key)
        if queue is None:
            queue = self._queues[hold.key] = _Queue(hold.key)
        queue.level = max(1, hold.level if isinstance(hold.level, int) else hold.level())
        hold.since = self._clock.monotonic()
        queue.wake()
        if len(queue.running) < queue.level:
            queue.running[hold] = None
            return None
        if len(queue.waiting) >= self._max_waiting:
            raise OVERLOADED.error(f"{len(queue.waiting)} calls wait for {hold.key} already", retry_after=1.0)
        queue.waiting[hold] = future = asyncio.get_running_loop().create_future()
        return future

    def _leave(self, hold: Hold) -> None:
        queue = self._queues.get(hold.key)
        if queue is None:
            return  # cancelled, and whoever left before it found nobody else and removed the queue
        if hold in queue.running:
            del queue.running[hold]
        else:
            queue.waiting.pop(hold, None)
        queue.wake()
        if not queue.running:
            del self._queues[hold.key]

    def _wait_limit(self, hold: Hold) -> float | None:
        return None if hold.deadline is None else max(0.0, hold.deadline - self._clock.monotonic())


class Hold:
    """One entry of a queue. Enter it once."""

    __slots__ = ("_queues", "deadline", "key", "level", "since")

    def __init__(self, queues: SerialQueues, key: str, level: Level, deadline: float | None) -> None:
        self._queues, self.key, self.level, self.deadline = queues, key, level, deadline
        self.since = 0.0

    async def __aenter__(self) -> Hold:
        turn = self._queues._enter(self)
        if turn is not None:
            await self._wait(turn)
        return self

    async def _wait(self, turn: asyncio.Future[None]) -> None:
        limit = self._queues._wait_limit(self)
        timer = None if limit is None else turn.get_loop().call_later(limit, self._expire, turn)
        try:
            await turn
        except BaseException:
            # Also when the turn was given in the same moment as the wait was cancelled: the next one must get
            # it.
            self._queues._leave(self)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _expire(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            turn.set_exception(TIMEOUT.error(f"the deadline passed while waiting for {self.key}"))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queues._leave(self)


class _Queue:
    __slots__ = ("key", "level", "running", "waiting")

    def __init__(self, key: str) -> None:
        self.key, self.level = key, 1
        self.running: dict[Hold, None] = {}
        self.waiting: OrderedDict[Hold, asyncio.Future[None]] = OrderedDict()

    def wake(self) -> None:
        """Gives free places to those who wait; an entry that is done was cancelled or timed out, and leaves
        by itself."""
        while self.waiting and len(self.running) < self.level:
            hold, turn = self.waiting.popitem(last=False)
            if not turn.done():
                self.running[hold] = None
                turn.set_result(None)

    def state(self, now: float) -> QueueState:
        oldest = min((hold.since for hold in (*self.running, *self.waiting)), default=now)
        return QueueState(self.key, self.level, len(self.running), len(self.waiting), now - oldest)
