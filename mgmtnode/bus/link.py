"""One connection to a broker: connects, stays connected, connects anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, ClassVar, TypeVar

from mgmtnode.bus.session import Session
from mgmtnode.bus.stream import Stream
from mgmtnode.ports import Rng

log = logging.getLogger(__name__)

T = TypeVar("T")
FIRST_RETRY, LAST_RETRY = 0.1, 5.0
SETUP_TIMEOUT = 10.0
STOP_TIMEOUT = 3.0


class Link:
    """Knows no AMQP library: subclasses connect, say what to do then, and what a broken connection raises.

    Connecting and closing take several round trips of a library that blocks, and happen in a thread, which nobody waits
    for at the end of the process. All between happens on the event loop: this is the ``Talk`` of a ``Session``.
    """

    broken: ClassVar[tuple[type[Exception], ...]] = (OSError,)

    def __init__(self, name: str, rng: Rng, changed: Callable[[], None]) -> None:
        self.name, self.connected, self.ended = name, False, False
        self.sessions = self.failures = 0
        self._rng, self._changed = rng, changed
        self._context = Context()
        self._leave = asyncio.Event()
        self._stop_at: float | None = None
        self._session: Session | None = None
        self._aside = True  # whether it is a thread that reads, if anything does
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None]

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=self.name, context=self._context)

    def stop(self) -> None:
        """Begins the end; ``ended`` once it has come, after STOP_TIMEOUT or a little more."""
        self._stop_at = time.monotonic() + STOP_TIMEOUT
        self._leave.set()
        self.wake()

    def renew(self) -> None:
        """Lets go of the connection as if it had broken."""
        if self._session is not None:
            self._session.end(ConnectionError("nothing comes through"))

    def wake(self) -> None:
        """There is something to do, or nothing any more."""
        if self._session is not None:
            self._session.wake()

    @property
    def leaving(self) -> bool:
        return self._stop_at is not None

    @property
    def late(self) -> bool:
        """Whether the time to stop is over."""
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    async def _run(self) -> None:
        try:
            while not self.leaving:
                await self._connect_once()
                if not self.leaving:
                    await self._pause()
        finally:
            self.ended = True
            self._changed()

    async def _connect_once(self) -> None:
        connection: Any = None
        try:
            connection = await _in_thread(self.name, self._made)
            session = Session(self, self._attach(connection), self._context)
            try:
                self._begin(session)
                await session.over()
            finally:
                self._session, self._aside = None, True
                session.close()
                self._detach()
            await _in_thread(self.name, lambda: self._end(connection, session.stream))
        except Exception as exc:
            self._complain(exc)
        finally:
            self._set_connected(False)
            if connection is not None:
                self._collect(connection)

    def _made(self) -> Any:
        connection = self._connect()
        try:
            connection.sock.settimeout(SETUP_TIMEOUT)
            self._open(connection)
        except BaseException:
            self._collect(connection)
            raise
        return connection

    def _begin(self, session: Session) -> None:
        self.sessions += 1
        self.failures = 0
        self.begun()
        self._session, self._aside = session, False
        self._set_connected(True)

    def _end(self, connection: Any, stream: Stream) -> None:
        stream.give_back(STOP_TIMEOUT)
        self._close(connection)

    def _complain(self, exc: Exception) -> None:
        self.failures += 1
        foreseen = isinstance(exc, self.broken)
        if not (foreseen and self.leaving):
            log.warning("%s: %s: %s", self.name, type(exc).__name__, exc, exc_info=None if foreseen else exc)

    def _collect(self, connection: Any) -> None:
        try:
            connection.collect()
        except self.broken as exc:
            log.debug("%s: while letting go of the connection: %s", self.name, exc)

    def _set_connected(self, connected: bool) -> None:
        if self.connected != connected:
            self.connected = connected
            log.info("%s: %s", self.name, "connected" if connected else "not connected")
            self._changed()

    def _hand(self, take: Callable[..., None], *what: Any) -> None:
        """Calls ``take`` on the loop, whoever has read ``what``: a connection that is being closed goes on to give."""
        if not self._aside:
            take(*what)
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(take, *what, context=self._context)

    async def _pause(self) -> None:
        delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(self.failures, 10)) * self._rng.uniform(0.5, 1.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._leave.wait()

    # What subclasses say. In a thread, where it may wait:

    def _connect(self) -> Any:
        """The connection; it has ``sock`` and ``collect``."""
        raise NotImplementedError

    def _open(self, connection: Any) -> None:
        raise NotImplementedError

    def _close(self, connection: Any) -> None:
        raise NotImplementedError

    # On the loop, besides what ``Talk`` says:

    def _attach(self, connection: Any) -> Stream:
        """Has the library read from and write to a stream."""
        raise NotImplementedError

    def _detach(self) -> None:
        """Gives it back its socket, which does not block yet."""
        raise NotImplementedError

    def begun(self) -> None:
        """A session begins."""

    def read(self) -> None:
        raise NotImplementedError

    def work(self) -> None: ...

    def has_work(self) -> bool:
        return False

    def flushed(self) -> None: ...

    def tick(self) -> None: ...

    def finished(self) -> bool:
        return self.leaving


def _in_thread(name: str, work: Callable[[], T]) -> Awaitable[T]:
    """What ``work`` returns or raises. An executor would be waited for when the interpreter ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, failure: BaseException | None) -> None:
        if done.cancelled():
            return
        if failure is None:
            done.set_result(result)  # type: ignore[arg-type]
        else:
            done.set_exception(failure)

    def run() -> None:
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = work(), None
        except BaseException as exc:
            outcome = None, exc
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
