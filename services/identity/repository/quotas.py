"""The only SQL on quotas: the limits; what is held against them is in the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from sqlalchemy import bindparam, insert, select, update

from mgmtnode.contracts.quota import QUOTA, UNLIMITED, Quota, QuotaDefinition, QuotaUsage
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import pool
from mgmtnode.db.tables import resource as core
from mgmtnode.jobs import ledger
from services.identity.models import quota

if TYPE_CHECKING:
    from mgmtnode.query.engine import Query

PREFIX = "quota:"
BOUNDLESS = 1 << 62

KNOWN = (
    select(quota.c.uuid, quota.c.value, quota.c.overridden)
    .join(core, core.c.uuid == quota.c.uuid)
    .where(core.c.account_uuid == bindparam("account"))
)


def quota_uuid(account_uuid: str, name: str) -> str:
    """The quota's uuid follows from whose and what it is, so that it cannot be made twice."""
    return str(uuid5(UUID(account_uuid), name))


def kind_of(name: str) -> str:
    """The kind of the ledger's pool that the quota limits."""
    return PREFIX + name


class QuotaRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> Quota:
        found: Quota = self._query.get(tx, QUOTA, uuid)
        return found

    def ensure(self, tx: Tx, account_uuid: str, definitions: Iterable[QuotaDefinition]) -> None:
        """Makes the account's missing quotas, and moves those that follow the default. Lock the account."""
        known = self._known(tx, account_uuid)
        for each in definitions:
            uuid = quota_uuid(account_uuid, each.name)
            if uuid not in known:
                resource.create(
                    tx, QUOTA, uuid, each.name, account=account_uuid, description=each.description
                )
                tx.execute(
                    insert(quota).values(uuid=uuid, value=each.default, overridden=False, unit=each.unit)
                )
                self._limit(tx, account_uuid, each.name, each.default)
            elif not known[uuid][1] and known[uuid][0] != each.default:
                self._set(tx, uuid, each.default, overridden=False)
                self._limit(tx, account_uuid, each.name, each.default)

    def set(self, tx: Tx, found: Quota, value: int, *, overridden: bool) -> Quota:
        self._set(tx, found.uuid, value, overridden=overridden)
        resource.change(tx, QUOTA, found.uuid)
        self._limit(tx, found.account_uuid, found.name, value)
        return self.get(tx, found.uuid)

    def usage(self, tx: Tx, account_uuid: str) -> list[QuotaUsage]:
        used = select(pool.c.kind, pool.c.used).where(pool.c.resource_uuid == account_uuid)
        held = {str(r[0]).removeprefix(PREFIX): int(r[1]) for r in tx.execute(used)}
        mine = select(core.c.name, quota.c.value, quota.c.unit).join(core, core.c.uuid == quota.c.uuid)
        rows = tx.execute(mine.where(core.c.account_uuid == account_uuid).order_by(core.c.name))
        return [QuotaUsage(name=n, used=held.get(n, 0), value=v, unit=u) for n, v, u in rows]

    def _known(self, tx: Tx, account_uuid: str) -> dict[str, tuple[int, bool]]:
        """uuid → (value, overridden)."""
        rows = tx.execute(KNOWN, {"account": account_uuid})
        return {str(r[0]): (int(r[1]), bool(r[2])) for r in rows}

    def _set(self, tx: Tx, uuid: str, value: int, *, overridden: bool) -> None:
        tx.execute(update(quota).where(quota.c.uuid == uuid).values(value=value, overridden=overridden))

    def _limit(self, tx: Tx, account_uuid: str, name: str, value: int) -> None:
        ledger.set_pool(tx, account_uuid, kind_of(name), BOUNDLESS if value == UNLIMITED else value)
