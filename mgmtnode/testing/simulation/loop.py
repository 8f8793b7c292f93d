"""An event loop with virtual time that runs several nodes: first in, first out inside a node, as in a real process,
and a seeded choice between the nodes that have something to do."""

from __future__ import annotations

import asyncio
import heapq
import logging
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from itertools import count
from random import Random
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WORLD = "world"
MAX_STEPS_AT_ONCE = 200_000  # callbacks without any time passing: more is a loop that never ends

current_node: ContextVar[str] = ContextVar("current_node", default=WORLD)


class Deadlock(Exception):
    """Nothing is left to do, and nothing will ever be."""


class Livelock(Exception):
    """So many callbacks ran without time passing that they will never end."""


class SimulatedFuture(asyncio.Future[T]):
    """Hashes by a number, not by its address: the order of a set of futures is the same in every run."""

    __slots__ = ("_number",)

    _number: int

    def __hash__(self) -> int:
        return self._number


class StubbornFuture(SimulatedFuture[T]):
    """Cannot be cancelled: whoever is, while he waits for it, goes when it is done."""

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        return False


class QuickHandle:
    """What asyncio's TimerHandle is for whoever holds one, and no more. ``node``: whose callback it is."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_when", "node")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None, when: float
    ) -> None:
        self._context = context = copy_context() if context is None else context
        self._callback, self._args, self._when = callback, args, when
        self._cancelled = False
        self.node = context.get(current_node, WORLD)

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = _nothing, ()

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def __repr__(self) -> str:
        return f"{self._callback} of {self.node}"


def _nothing() -> None:
    pass


class SimulatedTask(asyncio.Task[T]):
    """As SimulatedFuture. ``context``: the one it runs in."""

    __slots__ = ("_number", "context")

    def __init__(
        self, number: int, coro: Coroutine[Any, Any, T], loop: VirtualLoop, name: str, context: Context
    ) -> None:
        self._number, self.context = number, context
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """What runs in a context belongs to the node that ``current_node`` names there; everything else to the world.

    Time passes only when no node has anything to do. A node that is paused keeps its place in time: what becomes due
    waits until it goes on. What belongs to a dead node never runs, not even its ``finally`` blocks.
    """

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng
        self._now = 0.0
        self._queues: dict[str, deque[QuickHandle]] = {}
        self._awake: list[str] = []
        self._paused: dict[str, int] = {}
        self._dead: set[str] = set()
        self._timers: list[tuple[float, int, QuickHandle]] = []
        self._numbers = count()
        self._tasks: list[SimulatedTask[Any]] = []
        self.over = False
        self._still = 0  # callbacks since time passed
        self.steps = 0
        self._error: Exception | None = None

    # the nodes

    def context_of(self, node: str) -> Context:
        """A context whose callbacks belong to ``node``."""
        context = Context()
        context.run(current_node.set, node)
        return context

    def spawn(self, coro: Coroutine[Any, Any, T], node: str = WORLD) -> asyncio.Task[T]:
        return self.create_task(coro, context=self.context_of(node))

    def pause(self, node: str) -> None:
        """As often as it was paused, it must be resumed."""
        self._paused[node] = self._paused.get(node, 0) + 1
        if node in self._awake:
            self._awake.remove(node)

    def resume(self, node: str) -> None:
        if node not in self._paused:
            return
        self._paused[node] -= 1
        if not self._paused[node]:
            del self._paused[node]
            if self._queues.get(node):
                self._awake.append(node)

    def paused(self, node: str) -> bool:
        return node in self._paused

    def kill(self, node: str) -> None:
        """SIGKILL: not one more callback of it runs."""
        self._dead.add(node)
        self._paused.pop(node, None)
        self._queues.pop(node, None)
        if node in self._awake:
            self._awake.remove(node)

    def lost_failures(self) -> Iterator[BaseException]:
        """Exceptions of tasks that nobody has looked at."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task._log_traceback:
                error = task.exception()
                assert error is not None
                yield error

    def end(self) -> None:
        """Drops what still waits, in order and without running on: as if the power went off for all."""
        self.over = True
        for queue in (self._queues, self._timers, self._awake):
            queue.clear()
        before = events._get_running_loop()
        events._set_running_loop(self)
        logging.disable()
        try:
            for task in self._tasks:
                if not task.done():
                    _drop(task)
        finally:
            logging.disable(logging.NOTSET)
            events._set_running_loop(before)
        self._tasks.clear()
        self.close()

    def abort(self, error: Exception) -> None:
        """Nothing more runs, and ``run_until_complete`` raises this."""
        self._error = error

    # what asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = QuickHandle(callback, args, context, 0.0)
        self._enqueue(handle)
        return handle  # type: ignore[return-value]  # it does what one does

    call_soon_threadsafe = call_soon  # there are no threads

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = QuickHandle(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer  # type: ignore[return-value]  # it does what one does

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        future: SimulatedFuture[Any] = SimulatedFuture(loop=self)
        future._number = next(self._numbers)
        return future

    def stubborn_future(self) -> asyncio.Future[Any]:
        """One that cannot be cancelled."""
        future: StubbornFuture[Any] = StubbornFuture(loop=self)
        future._number = next(self._numbers)
        return future

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None
    ) -> SimulatedTask[Any]:
        if context is None:
            context = copy_context()
        elif current_node not in context:
            context.run(current_node.set, current_node.get())
        task = SimulatedTask(next(self._numbers), coro, self, str(name or "task"), context)
        self._tasks.append(task)
        if len(self._tasks) > 4000:
            self._tasks = [t for t in self._tasks if not t.done() or (not t.cancelled() and t._log_traceback)]
        return task

    def run_in_executor(
        self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """There are no threads: what computes for long is done at once, and takes no time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:
            future.set_exception(exc)
        return future

    def _process_events(self, event_list: Any) -> None:
        raise AssertionError("the simulation has no sockets")

    def _write_to_self(self) -> None:
        pass

    # running

    def _run_once(self) -> None:
        awake, queues, random = self._awake, self._queues, self._rng.random
        while not self._stopping:  # type: ignore[attr-defined]
            if not awake:
                self._pass_time()
                continue
            index = int(random() * len(awake)) if len(awake) > 1 else 0
            queue = queues[awake[index]]
            handle = queue.popleft()
            if not queue:
                awake[index] = awake[-1]
                awake.pop()
            if not handle._cancelled:
                self.steps += 1
                self._still += 1
                if self._still > MAX_STEPS_AT_ONCE:
                    raise Livelock(f"at {self._now:.3f} s: {handle!r}")
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:
                    message = f"Exception in callback {handle!r}"
                    self.call_exception_handler({"message": message, "exception": exc})
                if self._error is not None:
                    raise self._error

    def _enqueue(self, handle: QuickHandle) -> None:
        node = handle.node
        if node in self._dead or self.over:
            return
        queue = self._queues.get(node)
        if queue is None:
            queue = self._queues[node] = deque()
        if not queue and node not in self._paused:
            self._awake.append(node)
        queue.append(handle)

    def _pass_time(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Deadlock(f"at {self._now:.3f} s")
        self._still = 0
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            _, _, timer = heapq.heappop(timers)
            if not timer._cancelled:
                self._enqueue(timer)


def _drop(task: SimulatedTask[Any]) -> None:
    """Ends a task that will not run any more. Its ``finally`` blocks are left here and now, not by the garbage
    collector in the middle of another schedule."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coro = task.get_coro()
    for _ in range(100):
        try:
            task.context.run(coro.close)
            return
        except RuntimeError:  # it awaits something in a ``finally``
            continue
        except BaseException:
            return
