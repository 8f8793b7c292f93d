"""The core ``resource`` row that every resource shares its key with: identity, name, owner, revision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from mgmtnode.db.session import Tx
from mgmtnode.db.tables import resource, share
from mgmtnode.errors import NAME_TAKEN, NOT_FOUND
from mgmtnode.schema import Resource

PUBLIC = "*"
NAMES_AT_ONCE = 500  # uuids in one statement

# Written once: building a statement costs more than running it.
_THIS = resource.c.uuid == bindparam("which")
INSERT = insert(resource)
UPDATE = update(resource).where(_THIS)
DELETE = delete(resource).where(_THIS)
HOLD_STILL = select(resource.c.uuid).where(_THIS).with_for_update(key_share=True)
KNOWN = select(resource.c.uuid, resource.c.type, resource.c.account_uuid).where(
    resource.c.uuid.in_(bindparam("these", expanding=True))
)
NAMES = select(resource.c.uuid, resource.c.name)
SHARED = select(share.c.resource_uuid).where(
    share.c.resource_uuid.in_(bindparam("these", expanding=True)),
    share.c.account_uuid.in_(bindparam("with", expanding=True)),
)
TYPE = select(resource.c.type).where(_THIS)
OWNER = select(resource.c.account_uuid).where(_THIS)


def create(tx: Tx, kind: Resource, uuid: str, name: str, *, account: str, description: str = "") -> None:
    """Inserts the core row. Raises core.name-taken where the kind's names are unique."""
    row: dict[str, Any] = {
        "uuid": uuid,
        "type": kind.type,
        "name": name,
        "unique_name": name if kind.unique_name else None,
        "description": description,
        "account_uuid": account,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    if kind.unique_name:
        _or_taken(kind, name, lambda: tx.execute(INSERT, row))
    else:
        tx.later(INSERT, row)


def change(tx: Tx, kind: Resource, uuid: str, **values: Any) -> None:
    """Changes ``name`` and ``description``, or nothing but the time of the last change."""
    core: dict[str, Any] = {key: values[key] for key in ("name", "description") if key in values}
    if kind.unique_name and "name" in core:
        core["unique_name"] = core["name"]
    row = core | {"which": uuid, "updated_at": tx.now}
    _or_taken(kind, str(values.get("name", "")), lambda: tx.execute(UPDATE, row))


def remove(tx: Tx, uuid: str) -> None:
    """Deletes the core row; its tags, shares and overrides go with it. Remove the service's own row first."""
    tx.later(DELETE, {"which": uuid})


def hold(tx: Tx, uuids: Sequence[str]) -> None:
    """Lets nobody change these resources until the commit; others may hold them, too."""
    some = select(resource.c.uuid).where(resource.c.uuid.in_(uuids)).order_by(resource.c.uuid)
    tx.execute(some.with_for_update(read=True)).all()


def hold_still(tx: Tx, uuid: str) -> None:
    """Locks the resource's row, if there is one: every job that changes or deletes the resource writes it."""
    tx.execute(HOLD_STILL, {"which": uuid})


def known(tx: Tx, uuids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(type, account) of those resources that exist."""
    return {str(r[0]): (str(r[1]), str(r[2])) for r in tx.execute(KNOWN, {"these": list(uuids)})}


def names(tx: Tx, uuids: Sequence[str], account: str | None) -> dict[str, str]:
    """The names of those of the resources that are the account's, or of all."""
    found: dict[str, str] = {}
    for start in range(0, len(uuids), NAMES_AT_ONCE):
        these = NAMES.where(resource.c.uuid.in_(uuids[start : start + NAMES_AT_ONCE]))
        mine = these if account is None else these.where(resource.c.account_uuid == account)
        found |= {str(r[0]): str(r[1]) for r in tx.execute(mine)}
    return found


def shared(tx: Tx, uuids: Sequence[str], account: str) -> set[str]:
    """Those of the resources that are shared with the account or with everybody."""
    return {str(r[0]) for r in tx.execute(SHARED, {"these": list(uuids), "with": [account, PUBLIC]})}


def type_of(tx: Tx, uuid: str) -> str | None:
    return tx.execute(TYPE, {"which": uuid}).scalar()


def owner_of(tx: Tx, uuid: str) -> str:
    """The account a resource belongs to. Raises core.not-found."""
    owner = tx.execute(OWNER, {"which": uuid}).scalar()
    if owner is None:
        raise NOT_FOUND.error(f"there is no resource {uuid}", resource=uuid)
    return str(owner)


def change_owner(tx: Tx, uuid: str, account: str) -> None:
    tx.execute(UPDATE, {"which": uuid, "account_uuid": account, "updated_at": tx.now})


def share_with(tx: Tx, uuid: str, account: str = PUBLIC) -> None:
    """Lets ``account`` (or everybody) see and use the resource, not change it. Idempotent."""
    held = (
        select(func.count())
        .select_from(share)
        .where(share.c.resource_uuid == uuid, share.c.account_uuid == account)
    )
    if not tx.execute(held).scalar():
        tx.execute(insert(share).values(resource_uuid=uuid, account_uuid=account))


def unshare(tx: Tx, uuid: str, account: str = PUBLIC) -> None:
    tx.execute(delete(share).where(share.c.resource_uuid == uuid, share.c.account_uuid == account))


def _or_taken(kind: Resource, name: str, write: Callable[[], Any]) -> None:
    try:
        write()
    except IntegrityError as exc:
        if kind.unique_name and "unique" in str(exc.orig).lower():
            raise NAME_TAKEN.error(f"a {kind.type} named {name!r} exists") from exc
        raise
