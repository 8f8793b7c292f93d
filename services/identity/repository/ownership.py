"""The only SQL on owners and shares; the rows are the core's."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Column, Table, select

from mgmtnode.contracts.ownership import Ownership
from mgmtnode.db.resource import PUBLIC
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import resource as core
from mgmtnode.db.tables import share
from mgmtnode.errors import NOT_FOUND


def ownership_of(tx: Tx, uuid: str) -> Ownership:
    """Raises core.not-found."""
    row = tx.execute(select(core.c.type, core.c.account_uuid).where(core.c.uuid == uuid)).first()
    if row is None:
        raise NOT_FOUND.error(f"there is no resource {uuid}", resource=uuid)
    with_whom = (
        select(share.c.account_uuid).where(share.c.resource_uuid == uuid).order_by(share.c.account_uuid)
    )
    accounts = [str(r[0]) for r in tx.execute(with_whom)]
    return Ownership(
        uuid=uuid,
        type=row[0],
        account_uuid=row[1],
        public=PUBLIC in accounts,
        shared_with=[a for a in accounts if a != PUBLIC],
    )


def parts_of(tx: Tx, tables: Iterable[Table], found: Ownership) -> list[Ownership]:
    """The resources that are part of this one, and theirs: whoever has it has them."""
    columns = [column for table in tables for column in _wholes(table) if column.info["ref"] == found.type]
    parts: list[Ownership] = []
    for column in columns:
        uuids = tx.execute(
            select(column.table.c.uuid).where(column == found.uuid).order_by(column.table.c.uuid)
        )
        for uuid in [str(row[0]) for row in uuids]:
            part = ownership_of(tx, uuid)
            parts += [part, *parts_of(tx, tables, part)]
    return parts


def whole_of(tables: Iterable[Table], type_: str) -> str | None:
    """The type of which resources of ``type_`` are parts."""
    mine = (column for t in tables if t.info.get("resource_type") == type_ for column in _wholes(t))
    return next((str(column.info["ref"]) for column in mine), None)


def _wholes(table: Table) -> list[Column[object]]:
    return [column for column in table.columns if column.info.get("part_of")]
