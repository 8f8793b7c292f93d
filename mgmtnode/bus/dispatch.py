"""Runs handlers: finds the one for a message, waits for its serial key, gives it the call context, ends it in
time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from string import Formatter
from typing import Any

from mgmtnode.bus.context import CallContext, current
from mgmtnode.bus.message import Message, type_name
from mgmtnode.errors import INTERNAL, NO_HANDLER, REENTRY, TIMEOUT, ApiError, from_exception, log_failure
from mgmtnode.ports import Clock
from mgmtnode.tasks.serial import Level, SerialQueues

log = logging.getLogger(__name__)

HandlerFunction = Callable[[Any], Awaitable[Any]]


class Handler:
    __slots__ = ("fn", "key", "level", "name")

    def __init__(self, cls: type[Message[Any]], fn: HandlerFunction, serial: str, level: Level) -> None:
        self.name, self.fn, self.level = type_name(cls), fn, level
        self.key = serial_key(cls, serial) if serial else None


class Running:
    """A handler at work, or waiting for its serial key. For introspection."""

    __slots__ = ("key", "name", "since", "trace", "waiting")

    def __init__(self, name: str, key: str, since: float, trace: str) -> None:
        self.name, self.key, self.since, self.trace = name, key, since, trace
        self.waiting = False


@dataclass(frozen=True, slots=True)
class RunningState:
    message: str
    key: str
    waiting: bool
    seconds: float
    trace: str


class Dispatcher:
    """The registry of handlers, and the one road to each of them, from this node or from another."""

    def __init__(self, clock: Clock, queues: SerialQueues) -> None:
        self._clock, self._queues = clock, queues
        self._handlers: dict[type, Handler] = {}
        self._running: dict[Running, None] = {}
        self._idle: list[asyncio.Future[None]] = []

    def register(
        self, cls: type[Message[Any]], fn: HandlerFunction, serial: str = "", level: Level = 1
    ) -> None:
        """Raises ValueError for a second handler, or a ``serial`` that names no field of the message."""
        if cls in self._handlers:
            raise ValueError(f"{type_name(cls)} has a handler already")
        self._handlers[cls] = Handler(cls, fn, serial, level)

    def message_types(self) -> list[type]:
        return list(self._handlers)

    async def invoke(self, msg: Message[Any], deadline: float, context: CallContext) -> Any:
        """Runs the handler in the calling task, which is cancelled inside it at ``deadline`` (monotonic).

        Raises ApiError and nothing else, besides the cancellation of the calling task itself.
        """
        handler = self._handlers.get(type(msg))
        if handler is None:
            raise NO_HANDLER.error(f"no service on this node handles {type_name(type(msg))}")
        now = self._clock.monotonic()
        key, chain = "", context.chain
        if handler.key is not None:
            key = handler.key(msg)
            if key in chain:
                raise REENTRY.error(
                    f"{handler.name} needs {key}, which its caller holds: {' > '.join(chain)}"
                )
            chain = (*chain, key)
        running = Running(handler.name, key, now, context.trace)
        self._running[running] = None
        token = current.set(
            CallContext(deadline, chain, context.trace, context.work, None, context.span, context.request)
        )
        try:
            return await self._limited(handler, msg, running, deadline - now)
        finally:
            current.reset(token)
            del self._running[running]
            if self._idle and not self._running:
                self._tell_idle()

    async def _limited(self, handler: Handler, msg: Message[Any], running: Running, seconds: float) -> Any:
        limit = TimeLimit(seconds)
        try:
            if not running.key:
                return await handler.fn(msg)
            running.waiting = True
            async with self._queues.hold(running.key, handler.level):
                running.waiting = False
                return await handler.fn(msg)
        except asyncio.CancelledError as exc:
            raise self._cancelled(running, limit) from exc
        except ApiError:
            raise
        except TimeoutError as exc:
            raise from_exception(exc) from exc
        except Exception as exc:
            log.exception("%s failed (trace %s)", running.name, running.trace or "-")
            raise from_exception(exc) from exc
        finally:
            limit.end()

    def _cancelled(self, running: Running, limit: TimeLimit) -> BaseException:
        if limit.cancelled_task():
            doing = f"waiting for {running.key}" if running.waiting else "running"
            return TIMEOUT.error(f"the deadline passed while {running.name} was {doing}")
        if limit.task_is_cancelled():
            return asyncio.CancelledError()
        log.error("%s awaited something that was cancelled (trace %s)", running.name, running.trace or "-")
        return INTERNAL.error(f"{running.name} awaited something that was cancelled")

    async def tell(self, what: str, fn: HandlerFunction, fact: Any) -> bool:
        """Runs ``fn(fact)`` for its own sake; an exception is logged and answers False."""
        try:
            await fn(fact)
        except Exception as exc:
            log_failure(log, exc, "%s failed", what)
            return False
        return True

    async def idle(self) -> None:
        """Returns when no handler runs."""
        if self._running:
            future = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            await future

    def _tell_idle(self) -> None:
        waiting, self._idle = self._idle, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def snapshot(self) -> list[RunningState]:
        now = self._clock.monotonic()
        return [RunningState(r.name, r.key, r.waiting, now - r.since, r.trace) for r in self._running]


class TimeLimit:
    """Cancels the current task after ``seconds``, and tells that cancellation from others. Cheaper than a
    task of its own for the handler, and a caller that is cancelled takes the handler along."""

    __slots__ = ("_before", "_expired", "_mine", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._expired = self._mine = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def cancelled_task(self) -> bool:
        """Whether a CancelledError that was caught is this limit's alone."""
        self.end()
        return self._mine

    def task_is_cancelled(self) -> bool:
        return self._task.cancelling() > self._before

    def end(self) -> None:
        self._timer.cancel()
        if self._expired:
            self._expired = False
            self._mine = self._task.uncancel() <= self._before


def serial_key(cls: type[Message[Any]], template: str) -> Callable[[Any], str]:
    """Fills ``"vm:{uuid}"`` from a message's fields. Raises ValueError when a field is not there."""
    parts = [(text, name) for text, name, _, _ in Formatter().parse(template)]
    for _, name in parts:
        if name is not None and name not in cls.__struct_fields__:
            raise ValueError(
                f"serial {template!r} of {type_name(cls)} names {name!r}, which is none of its fields"
            )
    if len(parts) == 1 and (field := parts[0][1]):
        text = parts[0][0]
        return lambda msg: f"{text}{getattr(msg, field)}"
    return lambda msg: "".join(text + (str(getattr(msg, name)) if name else "") for text, name in parts)
