"""Bringing the database's schema up to what the core and the loaded services declare."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table

from mgmtnode.db.base import metadata
from mgmtnode.db.session import SqlDatabase
from mgmtnode.db.tables import CORE_TABLES


def upgrade(db: SqlDatabase, tables: Iterable[Table]) -> None:
    """Creates what is missing. Blocks; run it in a thread."""
    with db.engine.begin() as connection:
        metadata.create_all(connection, tables=[*CORE_TABLES, *tables], checkfirst=True)
