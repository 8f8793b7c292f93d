"""Group commit for SQLite: what waits for the one writer is committed together, so that many share one disk flush.

A commit costs a flush of the disk, a few milliseconds on a laptop, and SQLite has one writer: one transaction after
the other would cap the node at a few hundred a second. Each piece of work runs in a savepoint of its own and hears
of its success only after the COMMIT that holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from mgmtnode.db.faults import convert
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.workers import Pending, Workers, to_its_end
from mgmtnode.errors import DATABASE_DOWN
from mgmtnode.ports import Clock
from mgmtnode.telemetry.telemetry import Telemetry

T = TypeVar("T")
BATCH = 128  # pieces of work that share a commit at most; bounds how long the first of them waits


class SqliteDatabase(SqlDatabase):
    """One writer thread that commits in groups; readers beside it see the last commit."""

    def __init__(
        self,
        writer: Engine,
        reader: Engine,
        clock: Clock,
        *,
        readers: int,
        telemetry: Telemetry | None = None,
    ) -> None:
        super().__init__(writer, reader, clock, telemetry=telemetry)
        self._readers = Workers(readers, "db-read")
        self._queue: deque[Pending[Any]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    async def _write(self, work: Callable[[Tx], T]) -> T:
        pending = Pending(work, asyncio.get_running_loop().create_future())
        with self._wake:
            if self._closed:
                raise DATABASE_DOWN.error("the database is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="db-write", daemon=True)
                self._thread.start()
            self._queue.append(pending)
            self._wake.notify()
        return await to_its_end(pending.future)

    async def _read(self, work: Callable[[Tx], T]) -> T:
        return await to_its_end(self._readers.begin(lambda: self._attempts(self._reader, work)))

    async def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.close)
        await super().close()

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._commit(batch)
            except BaseException as exc:
                for pending in batch:
                    pending.error = pending.error or exc
            _hand_back(batch)

    def _next(self) -> list[Pending[Any]]:
        """What waits, oldest first; empty once closed and drained."""
        with self._wake:
            while not self._queue and not self._closed:
                self._wake.wait()
            return [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]

    def _commit(self, batch: list[Pending[Any]]) -> None:
        alone = len(batch) == 1
        try:
            with self._writer.connect() as connection, connection.begin():
                for pending in batch:
                    self._one(connection, pending, alone)
        except DBAPIError as exc:
            raise convert(exc) from exc

    def _one(self, connection: Connection, pending: Pending[Any], alone: bool) -> None:
        """Runs one piece; its failure is its own, unless it is alone and takes the transaction with it."""
        tx = Tx(connection, self._clock.now(), self.hooks)
        if alone:
            pending.result = pending.work(tx)
        else:
            connection.exec_driver_sql("SAVEPOINT work")
            try:
                pending.result = pending.work(tx)
            except BaseException as exc:
                connection.exec_driver_sql("ROLLBACK TO work")
                pending.error = convert(exc) if isinstance(exc, DBAPIError) else exc
                return
            finally:
                connection.exec_driver_sql("RELEASE work")
        pending.committed = tx.committed


def _hand_back(batch: list[Pending[Any]]) -> None:
    """Tells each event loop, once, of its part of the batch. One that has closed waits for nothing any more."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Pending[Any]]] = {}
    for pending in batch:
        by_loop.setdefault(pending.future.get_loop(), []).append(pending)
    for loop, part in by_loop.items():
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_deliver, part)


def _deliver(batch: list[Pending[Any]]) -> None:
    for pending in batch:
        pending.deliver()
