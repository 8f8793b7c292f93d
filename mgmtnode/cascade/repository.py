"""Which rows refer to a resource, by the declared columns."""

from __future__ import annotations

from sqlalchemy import select, update

from mgmtnode.db.base import metadata
from mgmtnode.db.session import Tx


def referring(tx: Tx, table: str, column: str, uuid: str) -> list[str]:
    """The uuids of the rows of ``table`` whose ``column`` names ``uuid``."""
    rows = metadata.tables[table]
    return [
        str(r[0]) for r in tx.execute(select(rows.c.uuid).where(rows.c[column] == uuid).order_by(rows.c.uuid))
    ]


def empty_column(tx: Tx, table: str, column: str, uuid: str) -> None:
    rows = metadata.tables[table]
    tx.execute(update(rows).where(rows.c[column] == uuid).values({column: None}))
