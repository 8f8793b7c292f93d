"""The only SQL on owners and shares; the rows are the core's."""

from __future__ import annotations

from sqlalchemy import select

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
