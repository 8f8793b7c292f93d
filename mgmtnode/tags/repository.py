"""The only SQL on tags."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import delete, insert, select, update

from mgmtnode.db.session import Tx
from mgmtnode.db.tables import tag

SYSTEM, USER = "system", "user"


class TagRow(NamedTuple):
    uuid: str
    resource_uuid: str
    resource_type: str
    kind: str
    text: str
    inherent: bool


COLUMNS = [tag.c[name] for name in TagRow._fields]


def add(tx: Tx, rows: Sequence[TagRow]) -> None:
    if rows:
        tx.execute(insert(tag), [row._asdict() | {"created_at": tx.now} for row in rows])


def find(tx: Tx, uuid: str) -> TagRow | None:
    row = tx.execute(select(*COLUMNS).where(tag.c.uuid == uuid)).first()
    return TagRow._make(row) if row else None


def of(tx: Tx, resource_uuids: Collection[str], kind: str) -> list[TagRow]:
    """In the order in which they were made."""
    statement = select(*COLUMNS).where(tag.c.resource_uuid.in_(resource_uuids), tag.c.kind == kind)
    return [TagRow._make(row) for row in tx.execute(statement.order_by(tag.c.created_at, tag.c.uuid))]


def carries(tx: Tx, resource_uuid: str, kind: str, text: str) -> bool:
    mine = (tag.c.resource_uuid == resource_uuid, tag.c.kind == kind, tag.c.text == text)
    return tx.execute(select(tag.c.uuid).where(*mine)).first() is not None


def change_text(tx: Tx, uuid: str, text: str) -> None:
    tx.execute(update(tag).where(tag.c.uuid == uuid).values(text=text))


def remove(tx: Tx, uuids: Collection[str]) -> None:
    if uuids:
        tx.execute(delete(tag).where(tag.c.uuid.in_(uuids)))
