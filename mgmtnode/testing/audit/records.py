"""Reads the database of a cloud, and what is on its simulated hosts, without any part of a node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self
from uuid import UUID

from mgmtnode.db.engine import open_database
from mgmtnode.ports import SystemClock
from mgmtnode.testing.audit.hosts import Hosts, Placed

Row = tuple[Any, ...]


class Records:
    """``url``: the database's, as a node has it."""

    def __init__(self, url: str, hosts: Hosts) -> None:
        # Not labelled as nodes label theirs: a node that takes over ends the connections of its predecessor.
        self._engine = open_database(url, SystemClock(), label="audit", connections=2).engine
        self._hosts = hosts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def rows(self, sql: str) -> list[Row]:
        """The rows of one query; uuids are texts."""
        with self._connected() as connection:
            return [tuple(map(_plain, row)) for row in connection.exec_driver_sql(sql)]

    def run(self, statements: Sequence[str]) -> None:
        """Commits them all or none."""
        with self._connected() as connection, connection.begin():
            for statement in statements:
                connection.exec_driver_sql(statement)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection of its own, as the server may be restarted before the next."""
        try:
            with self._engine.connect() as connection:
                yield connection
        finally:
            self._engine.dispose()

    def on_hosts(self) -> Placed:
        """What is on the hosts that the database knows."""
        return self._hosts([address for (address,) in self.rows("SELECT management_ip FROM host")])


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value
