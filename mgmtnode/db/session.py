"""The Database port, and what its implementations over SQLAlchemy share: a transaction is a function that blocks."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mgmtnode.db.faults import Fault, convert, fault_of
from mgmtnode.db.green import pause
from mgmtnode.errors import DATABASE_DOWN
from mgmtnode.ports import Clock
from mgmtnode.telemetry import families
from mgmtnode.telemetry.metrics import Metrics
from mgmtnode.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from mgmtnode.bus.message import Event, InTx
    from mgmtnode.jobs.job import Caller, WorkToken

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger(__name__)

ATTEMPTS = 6
FIRST_PAUSE = 0.01  # seconds before a transaction that lost a deadlock is tried again; doubled each time


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
        self.committing = False
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

    def later(self, statement: Executable, *rows: Mapping[str, Any]) -> None:
        """Executes a write, once for each row. Nobody may look at what comes of it but for its failing, which the next
        statement or the COMMIT may be told: on PostgreSQL it goes out with that."""
        with _put_off(self.connection):
            for row in rows or (None,):
                self.connection.execute(statement, row)

    def ping(self) -> None:
        """Asks the database for an answer: opening a transaction does not, on a connection that was kept."""
        self.connection.exec_driver_sql("SELECT 1")

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
    must not do anything but SQL. Raises ``core.database-unavailable`` when the database cannot be reached; whether
    a write was committed is unknown then. One that is cancelled while it runs ends first."""

    hooks: TxHooks | None

    @property
    def dialect(self) -> str: ...

    async def write(self, work: Callable[[Tx], T]) -> T: ...

    async def read(self, work: Callable[[Tx], T]) -> T: ...

    async def close(self) -> None: ...


class SqlDatabase(ABC):
    """``writer`` and ``reader`` may be one engine (PostgreSQL) or two (SQLite: one writer, readers beside it)."""

    def __init__(
        self, writer: Engine, reader: Engine, clock: Clock, *, telemetry: Telemetry | None = None
    ) -> None:
        self.hooks: TxHooks | None = None
        self.in_flight = 0
        telemetry = telemetry or Telemetry(clock)
        self._metrics = telemetry.metrics
        self._transaction = telemetry.operation(
            "transaction", ("kind",), family=families.DB_SECONDS, logger=log, kind="client"
        )
        show(self._metrics, self, (writer, reader))
        self._writer, self._reader, self._clock = writer, reader, clock

    @property
    def dialect(self) -> str:
        return self._writer.dialect.name

    @property
    def engine(self) -> Engine:
        return self._writer

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await self._told("write", self._write(work))

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._told("read", self._read(work))

    @abstractmethod
    async def _write(self, work: Callable[[Tx], T]) -> T: ...

    @abstractmethod
    async def _read(self, work: Callable[[Tx], T]) -> T: ...

    async def _told(self, kind: str, transaction: Awaitable[T]) -> T:
        self.in_flight += 1
        try:
            with self._transaction(kind):
                return await transaction
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    def run(self, work: Callable[[Tx], T]) -> T:
        """A write that blocks the calling thread: for boot, migrations and tools."""
        return self._attempts(self._writer, work)[0]

    def _attempts(self, engine: Engine, work: Callable[[Tx], T]) -> tuple[T, list[Callable[[], None]]]:
        for attempt in range(ATTEMPTS):
            tx: Tx | None = None
            try:
                with engine.connect() as connection:
                    tx = Tx(connection, self._clock.now(), self.hooks)
                    return _once(tx, work), tx.committed
            except DBAPIError as exc:
                fault = fault_of(exc)
                # A connection that was dead already is nobody's fault, and what had not reached COMMIT is undone.
                stale = attempt == 0 and exc.connection_invalidated and tx is not None and not tx.committing
                if attempt + 1 < ATTEMPTS and (fault is Fault.COLLISION or stale):
                    self._metrics.count(families.DB_RETRIES)
                    pause(FIRST_PAUSE * 2**attempt)
                    continue
                raise convert(exc) from exc
            except PoolTimeout as exc:
                raise DATABASE_DOWN.error("all database connections are in use", retry_after=1.0) from exc
        raise AssertionError("unreachable")


def show(metrics: Metrics, db: SqlDatabase, engines: Iterable[Engine]) -> None:
    """The database's gauges."""
    # QueuePools, which their annotation does not say; writer and reader may have one.
    pools: list[Any] = list({id(engine.pool): engine.pool for engine in engines}.values())

    def limit(pool: Any) -> int:
        return int(pool.size() + max(0, pool._max_overflow))

    metrics.read(families.DB_IN_FLIGHT, lambda: db.in_flight)
    metrics.read(families.DB_POOL_SIZE, lambda: sum(limit(pool) for pool in pools))
    metrics.read(families.DB_POOL_IN_USE, lambda: sum(pool.checkedout() for pool in pools))


def _put_off(connection: Connection) -> AbstractContextManager[None]:
    if connection.dialect.name != "postgresql":
        return nullcontext()
    from mgmtnode.db.joined import put_off  # only here: importing psycopg2 takes time at boot

    return put_off(connection)


def _once(tx: Tx, work: Callable[[Tx], T]) -> T:
    with tx.connection.begin():
        result = work(tx)
        tx.committing = True
    return result
