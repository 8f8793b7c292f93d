"""Heartbeats: what makes the lease last, and what shows that the others live.

ThreadHeart    a thread and a connection of its own, which no slow query and no busy event loop can hold up
TaskHeart      a task on the event loop, through the Database port: for simulations
NoHeart        for SQLite, whose only node has nobody to show anything to
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Protocol

from mgmtnode.cluster import repository
from mgmtnode.cluster.lease import BEAT_SECONDS
from mgmtnode.cluster.records import Beat
from mgmtnode.cluster.repository import Execute
from mgmtnode.db.own_connection import OwnConnection
from mgmtnode.db.session import Database, SqlDatabase
from mgmtnode.errors import ApiError
from mgmtnode.ports import Clock

log = logging.getLogger(__name__)

LOOP_SECONDS = (
    3.0  # an event loop that stood still for longer gets no new lease: whoever hangs must be succeeded
)
JOIN_SECONDS = 10.0

Pulse = Callable[[Execute], Beat]
Told = Callable[[float, Beat], None]


class Heart(Protocol):
    def start(self, pulse: Pulse, told: Told) -> None:
        """Runs ``pulse`` every BEAT_SECONDS; ``told(sent_at, beat)`` hears of each that the database answered, on the
        event loop. Needs a running loop."""
        ...

    async def stop(self) -> None: ...


class ThreadHeart:
    """``name`` is also the name of the advisory lock that the connection holds: that it is free shows at once, and
    without any clock, that the process is gone."""

    def __init__(self, db: SqlDatabase, clock: Clock, *, name: str, label: str) -> None:
        settings = {"application_name": label, "synchronous_commit": "off", "statement_timeout": "3s"}
        self._connection = OwnConnection(db, settings)
        self._clock, self._name = clock, name
        self._stopped = threading.Event()
        self._knocked: float | None = None  # when the loop was asked to show that it turns; None once it has
        self._thread: threading.Thread | None = None

    def start(self, pulse: Pulse, told: Told) -> None:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(loop, pulse, told), name="heart", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, JOIN_SECONDS)

    def _run(self, loop: asyncio.AbstractEventLoop, pulse: Pulse, told: Told) -> None:
        try:
            while not self._stopped.is_set():
                began = self._clock.monotonic()
                if not self._beat(loop, pulse, told):
                    return
                self._stopped.wait(max(0.0, BEAT_SECONDS - (self._clock.monotonic() - began)))
        finally:
            self._connection.close()

    def _beat(self, loop: asyncio.AbstractEventLoop, pulse: Pulse, told: Told) -> bool:
        """One heartbeat. False once the loop is closed."""
        sent_at = self._clock.monotonic()
        if (stands := self._stands_still(loop, sent_at)) > LOOP_SECONDS:
            log.error("the event loop has stood still for %.0f s: no heartbeat", stands)
            return _soon(loop, _nothing)
        try:
            self._connection.execute(repository.TAKE_LOCK, {"name": self._name})
            beat = pulse(self._connection.execute)
        except ApiError as error:
            log.warning("the lease was not renewed: %s", error.problem.message)
            return _soon(loop, _nothing)
        return _soon(loop, lambda: told(sent_at, beat))

    def _stands_still(self, loop: asyncio.AbstractEventLoop, now: float) -> float:
        """For how long the loop has not done what it was asked to, in seconds. The time between two beats does not
        count: a slow database is not a loop that hangs."""
        if self._knocked is None:
            self._knocked = now
            _soon(loop, self._opened)
            return 0.0
        return now - self._knocked

    def _opened(self) -> None:
        self._knocked = None


class NoHeart:
    def start(self, pulse: Pulse, told: Told) -> None:
        """Does nothing."""

    async def stop(self) -> None:
        """Nothing was started."""


def _nothing() -> None:
    """What a loop that is closed cannot even be asked to do."""


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> bool:
    """False once the loop is closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True


class TaskHeart:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._task: asyncio.Task[None] | None = None

    def start(self, pulse: Pulse, told: Told) -> None:
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(pulse, told), name="heart", context=Context())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self, pulse: Pulse, told: Told) -> None:
        while True:
            sent_at = self._clock.monotonic()
            try:
                beat = await self._db.write(lambda tx: pulse(tx.execute))
            except ApiError as error:
                log.warning("the lease was not renewed: %s", error.problem.message)
            else:
                told(sent_at, beat)
            await asyncio.sleep(max(0.0, BEAT_SECONDS - (self._clock.monotonic() - sent_at)))
