"""Reads the database of a cloud, and the file of its simulated hosts, without any part of a node."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from mgmtnode.db.engine import open_database
from mgmtnode.ports import SystemClock

Row = tuple[Any, ...]


class Records:
    """``url``: the database's, as a node has it. ``hosts``: the file of the simulated hosts, if there are any."""

    def __init__(self, url: str, hosts: Path | None = None) -> None:
        # Not labelled as nodes label theirs: a node that takes over ends the connections of its predecessor.
        self._engine = open_database(url, SystemClock(), label="audit", connections=2).engine
        self._hosts = hosts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._engine.dispose()

    def rows(self, sql: str) -> list[Row]:
        """The rows of one query, in a transaction of its own; uuids are texts."""
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def run(self, statements: Sequence[str]) -> None:
        """Commits them all or none."""
        with self._engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def on_hosts(self, sql: str) -> list[Row]:
        """The rows of one query on the hosts' file; none where no host was ever asked anything."""
        if self._hosts is None or not self._hosts.exists():
            return []
        with closing(sqlite3.connect(f"file:{self._hosts}?mode=ro", uri=True)) as file:
            return file.execute(sql).fetchall()
