"""An SQLite database in memory on one connection, whose transactions run in one go: what simulations stand on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from mgmtnode.db.faults import convert
from mgmtnode.db.memory_plans import PreparedConnection
from mgmtnode.db.session import Tx, TxHooks

T = TypeVar("T")

KEPT_STATEMENTS = 1024


class MemoryDatabase:
    """``save`` and ``restore`` take and give its whole content. One engine serves many contents, because what
    SQLAlchemy has compiled and SQLite prepared is worth keeping. ``engine`` is for bringing in the schema, first."""

    def __init__(self) -> None:
        self.engine = _engine()
        self.dialect = self.engine.dialect.name

    @cached_property
    def _connection(self) -> Connection:
        return self.engine.connect()

    @cached_property
    def _prepared(self) -> PreparedConnection:
        return PreparedConnection(self._connection)

    @cached_property
    def _raw(self) -> Any:
        return self._connection.connection.driver_connection

    def transact(self, work: Callable[[Tx], T], now: datetime, hooks: TxHooks | None) -> tuple[T, Tx]:
        """Runs and commits ``work``. Raises what it raises, and database errors as those that callers are told."""
        tx = Tx(self._prepared, now, hooks)  # type: ignore[arg-type]  # it has what a Tx uses
        self._raw.execute("BEGIN")
        try:
            result = work(tx)
        except BaseException as exc:
            self._raw.execute("ROLLBACK")
            if isinstance(exc, DBAPIError):
                raise convert(exc) from exc
            raise
        self._raw.execute("COMMIT")
        return result, tx

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """What is committed."""
        return list(self._raw.execute(query, args))

    def script(self, statement: str) -> None:
        self._raw.execute(statement)

    def function(self, name: str, function: Callable[..., None]) -> None:
        """Makes ``function`` callable from SQL, with any number of arguments."""
        self._raw.create_function(name, -1, function)

    def save(self) -> sqlite3.Connection:
        saved = sqlite3.connect(":memory:", check_same_thread=False)
        self._raw.backup(saved)
        return saved

    def restore(self, saved: sqlite3.Connection) -> None:
        """Not by ``deserialize``: SQLite 3.40 crashes when a statement with json_each, prepared before, runs after."""
        saved.backup(self._raw)


def _engine() -> Engine:
    engine = create_engine(
        "sqlite://",
        poolclass=StaticPool,
        isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are said here
        connect_args={"check_same_thread": False, "cached_statements": KEPT_STATEMENTS},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA foreign_keys=ON")

    return engine
