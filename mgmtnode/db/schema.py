"""Bringing the database's schema up to what the core and the loaded services declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Table, inspect, text
from sqlalchemy.exc import DBAPIError

from mgmtnode.db.base import metadata
from mgmtnode.db.session import SqlDatabase, convert
from mgmtnode.db.tables import CORE_TABLES

SERVER = {
    "sqlite": "select 'SQLite ' || sqlite_version(), null",
    "postgresql": "select 'PostgreSQL ' || current_setting('server_version'), extract(epoch from now())",
}


def server(db: SqlDatabase) -> tuple[str, float | None]:
    """Name and version of the database, and the seconds since 1970 by its own clock if it has one. Blocks."""
    with _told(), db.engine.connect() as connection:
        version, clock = connection.execute(text(SERVER[db.dialect])).one()
    return str(version), None if clock is None else float(clock)


def missing(db: SqlDatabase, tables: Iterable[Table]) -> list[str]:
    """What the core and ``tables`` declare and the database lacks: tables, and columns as
    ``table.column``. Blocks."""
    lacking: list[str] = []
    with _told():
        inspector = inspect(db.engine)
        present = set(inspector.get_table_names())
        for table in (*CORE_TABLES, *tables):
            if table.name not in present:
                lacking.append(table.name)
                continue
            columns = {column["name"] for column in inspector.get_columns(table.name)}
            lacking += [
                f"{table.name}.{column.name}" for column in table.columns if column.name not in columns
            ]
    return lacking


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the driver as those that callers are told."""
    try:
        yield
    except DBAPIError as exc:
        raise convert(exc) from exc


def upgrade(db: SqlDatabase, tables: Iterable[Table]) -> None:
    """Creates what is missing. Blocks; run it in a thread."""
    with db.engine.begin() as connection:
        metadata.create_all(connection, tables=[*CORE_TABLES, *tables], checkfirst=True)
