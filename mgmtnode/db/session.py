"""The Database port and its implementation over SQLAlchemy: a transaction is a function run in a worker thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mgmtnode.errors import CONFLICT, DATABASE_DAMAGED, DATABASE_DOWN, IN_USE, ApiError
from mgmtnode.ports import Clock

if TYPE_CHECKING:
    from mgmtnode.bus.message import Event, InTx
    from mgmtnode.jobs.job import Caller, WorkToken

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger(__name__)

RETRY_CODES = frozenset({"40001", "40P01", "55P03"})
ATTEMPTS = 6


class TxHooks(Protocol):
    """What the node gives every transaction: in-transaction messages and the event log."""

    def call_in_tx(self, tx: Tx, msg: InTx[Any]) -> Any: ...

    def record(self, tx: Tx, event: Event) -> None: ...


class Tx:
    """One open transaction. Lives inside ``Database.write`` or ``.read`` and is never kept.

    ``work`` and ``caller`` are set when it runs on behalf of a job. ``now`` is fixed for the whole transaction.
    """

    def __init__(self, connection: Connection, now: datetime, hooks: TxHooks | None) -> None:
        self.connection = connection
        self.now = now
        self.work: WorkToken | None = None
        self.caller: Caller | None = None
        self.origin: str = ""
        self.committed: list[Callable[[], None]] = []
        self._hooks = hooks

    @property
    def dialect(self) -> str:
        return self.connection.dialect.name

    @property
    def job(self) -> WorkToken:
        """The token of the job this transaction works for. Only inside a job."""
        assert self.work is not None, "not inside a job"
        return self.work

    def execute(self, statement: Executable, params: Any = None) -> CursorResult[*tuple[Any, ...]]:
        return self.connection.execute(statement, params)

    def call(self, msg: InTx[R]) -> R:
        """Asks another service inside this transaction."""
        assert self._hooks is not None
        return self._hooks.call_in_tx(self, msg)  # type: ignore[no-any-return]

    def record(self, event: Event) -> None:
        """Raises the resource's revision, writes the event beside it, and publishes it once committed."""
        assert self._hooks is not None
        self._hooks.record(self, event)

    def after_commit(self, action: Callable[[], None]) -> None:
        """``action`` runs on the event loop after the commit, and never if there is none."""
        self.committed.append(action)


class Database(Protocol):
    """Runs functions in transactions. A write is retried from its start on deadlock or serialisation failure, so it
    must not do anything but SQL. Raises ``core.database-unavailable`` when the database cannot be reached."""

    hooks: TxHooks | None

    @property
    def dialect(self) -> str: ...

    async def write(self, work: Callable[[Tx], T]) -> T: ...

    async def read(self, work: Callable[[Tx], T]) -> T: ...

    async def close(self) -> None: ...


class SqlDatabase:
    """``writer`` and ``reader`` may be one engine (PostgreSQL) or two (SQLite: one writer, readers beside it)."""

    def __init__(self, writer: Engine, reader: Engine, clock: Clock, *, writers: int, readers: int) -> None:
        self.hooks: TxHooks | None = None
        self._writer, self._reader, self._clock = writer, reader, clock
        self._write_pool = ThreadPoolExecutor(writers, "db-write")
        self._read_pool = ThreadPoolExecutor(readers, "db-read")

    @property
    def dialect(self) -> str:
        return self._writer.dialect.name

    @property
    def engine(self) -> Engine:
        return self._writer

    async def write(self, work: Callable[[Tx], T]) -> T:
        loop = asyncio.get_running_loop()
        result, committed = await loop.run_in_executor(self._write_pool, self._attempts, self._writer, work)
        for action in committed:
            action()
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        loop = asyncio.get_running_loop()
        result, _ = await loop.run_in_executor(self._read_pool, self._attempts, self._reader, work)
        return result

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for pool in (self._write_pool, self._read_pool):
            await loop.run_in_executor(None, pool.shutdown)
        self._writer.dispose()
        self._reader.dispose()

    def run(self, work: Callable[[Tx], T]) -> T:
        """A write in the calling thread: for boot, migrations and tools."""
        return self._attempts(self._writer, work)[0]

    def _attempts(self, engine: Engine, work: Callable[[Tx], T]) -> tuple[T, list[Callable[[], None]]]:
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._once(engine, work)
            except DBAPIError as exc:
                if left and getattr(exc.orig, "pgcode", None) in RETRY_CODES:
                    continue
                raise convert(exc) from exc
            except PoolTimeout as exc:
                raise DATABASE_DOWN.error("all database connections are in use", retry_after=1.0) from exc
        raise AssertionError("unreachable")

    def _once(self, engine: Engine, work: Callable[[Tx], T]) -> tuple[T, list[Callable[[], None]]]:
        with engine.connect() as connection, connection.begin():
            tx = Tx(connection, self._clock.now(), self.hooks)
            result = work(tx)
        return result, tx.committed


def convert(exc: DBAPIError) -> ApiError | DBAPIError:
    """The error a caller is told for a database error; unknown ones are returned as they are."""
    text = str(exc.orig)
    if isinstance(exc, IntegrityError):
        if "foreign key" in text.lower():
            return IN_USE.error("another resource still refers to it, or what it refers to is gone")
        return CONFLICT.error("the change collides with another one")
    unreachable = exc.connection_invalidated or isinstance(exc, InterfaceError | OperationalError)
    if unreachable:
        return DATABASE_DOWN.error(
            f"the database did not do it: {text.splitlines()[0][:200]}", retry_after=1.0
        )
    if type(exc) is DatabaseError:  # SQLite's word for a file that is no database, or not a whole one
        return DATABASE_DAMAGED.error(f"{text.splitlines()[0][:200]}; restore the database from a backup")
    return exc
