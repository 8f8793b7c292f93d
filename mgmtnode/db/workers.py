"""Threads that run transactions for event loops, and the way back: many outcomes a wake-up of the loop.

An executor of the standard library does the same for more: a future with a lock for the thread, chained to one for the
loop, and a wake-up for each. Three transactions make a VM.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from mgmtnode.errors import DATABASE_DOWN

T = TypeVar("T")
Action = Callable[[], None]
log = logging.getLogger(__name__)


class Pending(Generic[T]):
    """One piece of work, the future of who waits for it, and what came of it. ``committed``: what is to be done on the
    loop once it is known that it was committed."""

    __slots__ = ("committed", "error", "future", "result", "work")

    def __init__(self, work: Callable[..., T], future: asyncio.Future[Any]) -> None:
        self.work, self.future = work, future
        self.result: Any = None
        self.error: BaseException | None = None
        self.committed: list[Action] = []

    def deliver(self) -> None:
        """On the event loop, once it is known how it ended. What was committed is told even if nobody waits any
        more."""
        if self.error is None:
            tell(self.committed)
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Returns:
    """From threads to one event loop: what has ended, in that order. A loop that has closed waits for nothing."""

    def __init__(self) -> None:
        self._ended: deque[Pending[Any]] = deque()
        self._woken = False

    def put(self, pending: Pending[Any]) -> None:
        """From a thread."""
        self._ended.append(pending)
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):
                pending.future.get_loop().call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        for _ in range(len(self._ended)):
            self._ended.popleft().deliver()


class Workers:
    """At most ``count`` threads, made as they are needed. Work is a function that returns its result and what is to be
    told once that is out."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._queue: SimpleQueue[tuple[Pending[Any], Returns] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)
        self._returns: WeakKeyDictionary[asyncio.AbstractEventLoop, Returns] = WeakKeyDictionary()
        self._closed = False

    def begin(self, work: Callable[[], tuple[T, list[Action]]]) -> asyncio.Future[T]:
        """On an event loop. Raises core.database-unavailable once it is closed."""
        if self._closed:
            raise DATABASE_DOWN.error("the database is closed")
        loop = asyncio.get_running_loop()
        if (returns := self._returns.get(loop)) is None:
            returns = self._returns[loop] = Returns()
        pending = Pending(work, loop.create_future())
        self._queue.put((pending, returns))
        if len(self._threads) < self._count and not self._idle.acquire(blocking=False):
            self._start()
        return pending.future

    def close(self) -> None:
        """Ends the threads, after all that waits. Blocks."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            pending, returns = item
            try:
                pending.result, pending.committed = pending.work()
            except BaseException as exc:
                pending.error = exc
            returns.put(pending)
            del item, pending
            if len(self._threads) < self._count:
                self._idle.release()


def tell(committed: list[Action]) -> None:
    """Runs what was put off until after the commit, on the event loop."""
    for action in committed:
        try:
            action()
        except Exception:
            log.exception("after a commit")


async def to_its_end(running: asyncio.Future[T]) -> T:
    """The result of a transaction. A cancelled caller goes only when it has ended: what comes after the caller (an
    undo, say) must not run beside it. The statement timeout bounds the wait."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((running,))
        if not running.cancelled():
            running.exception()  # looked at: nobody else will
        raise
