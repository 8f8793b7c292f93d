"""PostgreSQL: transactions side by side on the event loop, as many as there are connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

from mgmtnode.db import green
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.workers import tell, to_its_end
from mgmtnode.errors import DATABASE_DOWN
from mgmtnode.ports import Clock
from mgmtnode.telemetry.telemetry import Telemetry

T = TypeVar("T")


class Gate:
    """At most ``count`` at once on each event loop, first come first served."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    @property
    def here(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        places = self._places.get(loop)
        if places is None:
            places = self._places[loop] = asyncio.Semaphore(self._count)
        return places


class PostgresDatabase(SqlDatabase):
    """Writers and readers together take no more connections than the pool has, so that nobody waits for one there: that
    would stop the loop."""

    def __init__(
        self,
        writer: Engine,
        reader: Engine,
        clock: Clock,
        *,
        writers: int,
        readers: int,
        telemetry: Telemetry | None = None,
    ) -> None:
        super().__init__(writer, reader, clock, telemetry=telemetry)
        self._writing, self._reading = Gate(writers), Gate(readers)
        self._first, self._met = Gate(1), False
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def _write(self, work: Callable[[Tx], T]) -> T:
        return await self._in_its_own(self._writing, self._writer, work)

    async def _read(self, work: Callable[[Tx], T]) -> T:
        return await self._in_its_own(self._reading, self._reader, work)

    async def close(self) -> None:
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        await super().close()

    async def _in_its_own(self, gate: Gate, engine: Engine, work: Callable[[Tx], T]) -> T:
        if self._closed:
            raise DATABASE_DOWN.error("the database is closed")
        task = asyncio.get_running_loop().create_task(self._run(gate, engine, work), context=Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await to_its_end(task)

    async def _run(self, gate: Gate, engine: Engine, work: Callable[[Tx], T]) -> T:
        if not self._met:
            await self._meet(engine)
        async with gate.here:
            result, committed = await green.run(lambda: self._attempts(engine, work))
        tell(committed)
        return result

    async def _meet(self, engine: Engine) -> None:
        """Connects, while nobody else does: SQLAlchemy holds a lock of threads while it asks its first server who it
        is."""
        async with self._first.here:
            if not self._met:
                await green.run(lambda: self._attempts(engine, Tx.ping))
                self._met = True
