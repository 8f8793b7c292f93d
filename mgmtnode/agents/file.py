"""The SQLite file an agent remembers in: many small writes of one loop turn share one commit."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mgmtnode.errors import UNAVAILABLE, ApiError

log = logging.getLogger(__name__)

Statement = tuple[str, Sequence[Any]]


class AgentFile:
    """Writes are committed in the order they were handed over; a batch is what came while the one before was
    written.

    ``synchronous``: FULL survives a power cut, which is what a real host needs; OFF survives the death of the
    process and no more. ``inline`` writes on the event loop itself: for simulations, which must not use
    threads. The file is locked for this process alone: two registers of one host would not know of each
    other's fences.
    """

    def __init__(
        self, path: str | Path, *, synchronous: str = "FULL", inline: bool = False, schema: Sequence[str] = ()
    ) -> None:
        self._pool = None if inline else ThreadPoolExecutor(1, "agent-file")
        self._pending: list[Statement] = []
        self._committed: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._connection = _open(str(path), synchronous, schema)

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """Reads what is committed, in the calling thread: for start-up only."""
        return self._connection.execute(query, args).fetchall()

    def hand_over(self, sql: str, *args: Any) -> asyncio.Future[None]:
        """Puts a statement into the next commit and returns what ends with it. Nobody needs to await that: a
        later write that is awaited implies all before it."""
        loop = asyncio.get_running_loop()
        self._pending.append((sql, args))
        if self._committed is None:
            self._committed = loop.create_future()
            self._committed.add_done_callback(_looked_at)
            if self._writing is None:
                loop.call_soon(self._flush)
        return self._committed

    async def write(self, sql: str, *args: Any) -> None:
        """Returns once the statement is committed. Raises core.unavailable when it is not known to be."""
        try:
            await asyncio.shield(self.hand_over(sql, *args))
        except sqlite3.Error as exc:
            raise _unavailable(exc) from exc

    async def close(self) -> None:
        """Commits what was handed over and releases the file."""
        while (last := self._committed or self._writing) is not None:
            await asyncio.wait({last})
        if self._pool is not None:
            self._pool.shutdown()
        self._connection.close()

    def _flush(self) -> None:
        batch, committed = self._pending, self._committed
        assert committed is not None
        self._pending, self._committed, self._writing = [], None, committed
        if self._pool is None:
            self._settle(committed, _attempt(self._connection, batch))
            return
        written = asyncio.get_running_loop().run_in_executor(self._pool, _attempt, self._connection, batch)
        written.add_done_callback(lambda done: self._settle(committed, done.result()))

    def _settle(self, committed: asyncio.Future[None], error: sqlite3.Error | None) -> None:
        self._writing = None
        if self._pending:
            self._flush()
        if error is None:
            committed.set_result(None)
        else:
            log.error("an agent's file was not written: %s", error)
            committed.set_exception(error)


def _open(path: str, synchronous: str, schema: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
    try:
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", f"synchronous={synchronous}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        for statement in schema:
            connection.execute(statement)
    except sqlite3.Error as exc:
        connection.close()
        raise UNAVAILABLE.error(f"{path}: {exc}; is another process using it?") from exc
    return connection


def _attempt(connection: sqlite3.Connection, batch: list[Statement]) -> sqlite3.Error | None:
    """Commits ``batch`` whole or not at all."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for sql, args in batch:
            connection.execute(sql, args)
        connection.execute("COMMIT")
    except sqlite3.Error as exc:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return exc
    return None


def _looked_at(committed: asyncio.Future[None]) -> None:
    if not committed.cancelled():
        committed.exception()


def _unavailable(exc: sqlite3.Error) -> ApiError:
    return UNAVAILABLE.error(f"the agent cannot write its register: {exc}", retry_after=1.0)
