"""Which rows refer to a resource, by the declared columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Table, select, update

from mgmtnode.db.session import Tx

AT_ONCE = 500  # uuids in one statement


def referring(tx: Tx, rows: Table, column: str, uuids: Sequence[str]) -> list[tuple[str, str]]:
    """The rows whose ``column`` names one of ``uuids``, as (uuid, named)."""
    found: list[tuple[str, str]] = []
    for some in batched(uuids):
        statement = select(rows.c.uuid, rows.c[column]).where(rows.c[column].in_(some)).order_by(rows.c.uuid)
        found += [(str(r[0]), str(r[1])) for r in tx.execute(statement)]
    return found


def batched(uuids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(uuids), AT_ONCE):
        yield uuids[start : start + AT_ONCE]


def empty_column(tx: Tx, rows: Table, column: str, uuid: str) -> None:
    tx.execute(update(rows).where(rows.c[column] == uuid).values({column: None}))
