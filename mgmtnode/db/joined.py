"""Statements that travel together: BEGIN with the first one, and what nobody waits for with the next, or the COMMIT.

A round trip costs the node and the database as much as a short statement. Of one message with several statements
PostgreSQL runs one after the other, each with a snapshot of its own, as if they had come by themselves; the first that
fails ends the message (docs/adr/0044).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2 import extensions  # type: ignore[import-untyped]
from sqlalchemy import Connection, Engine, event

BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
IDLE, BROKEN = extensions.TRANSACTION_STATUS_IDLE, extensions.TRANSACTION_STATUS_UNKNOWN


class JoiningConnection(extensions.connection):  # type: ignore[misc]
    """``joins``: whether writes may be put off at all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.later: list[bytes] = []
        self.joins, self.putting_off = True, False

    def begin(self) -> None:
        """A transaction, once its first statement goes out. Where the driver begins by itself this does nothing."""
        if self.autocommit:
            self.later.append(BEGIN)

    def commit(self) -> None:
        if not self.autocommit:
            super().commit()
        elif self.later == [BEGIN]:
            self.later.clear()
        elif self.later or self.in_transaction:
            self._end(b"COMMIT")

    def rollback(self) -> None:
        self.later.clear()
        if not self.autocommit or self.closed:
            super().rollback()
        elif self.in_transaction:
            self._end(b"ROLLBACK")

    def close(self) -> None:
        self.later.clear()
        super().close()

    @property
    def in_transaction(self) -> bool:
        """At the server, as far as is known."""
        return self.get_transaction_status() not in (IDLE, BROKEN)

    def _end(self, how: bytes) -> None:
        with self.cursor() as cursor:
            cursor.execute(how)


class JoiningCursor(extensions.cursor):  # type: ignore[misc]
    def execute(self, query: Any, vars: Any = None) -> None:
        link = self.connection
        if link.putting_off:
            link.later.append(self.mogrify(query, vars))
        elif link.later:
            self._send(self.mogrify(query, vars))
        else:
            super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        if self.connection.later:
            self._send()
        super().executemany(query, vars_list)

    def _send(self, *last: bytes) -> None:
        link = self.connection
        message, link.later = b"; ".join([*link.later, *last]), []
        super().execute(message)


def join(engine: Engine) -> None:
    """Begins transactions of the engine so, whose connections are JoiningConnections that commit by themselves."""

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if "isolation_level" not in connection.get_execution_options():  # else each statement is one
            _driver(connection).begin()


@contextmanager
def put_off(connection: Connection) -> Iterator[None]:
    """What is executed inside goes with the next statement: it must be a write whose outcome nobody looks at."""
    driver = _driver(connection)
    driver.putting_off = driver.joins
    try:
        yield
    finally:
        driver.putting_off = False


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection
