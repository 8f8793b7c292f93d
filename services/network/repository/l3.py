"""The only SQL on L3 networks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select, update

from mgmtnode.contracts.network import L3_NETWORK, CreateL3Network, IpStrategy, L3Network, NetworkState
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import WorkToken
from mgmtnode.query.engine import Query
from services.network.models import l3_network

COLUMNS = ("allocator_strategy", "dns", "domain", "state")


class L3Repository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> L3Network:
        found: L3Network = self._query.get(tx, L3_NETWORK, uuid)
        return found

    def insert(self, tx: Tx, work: WorkToken, msg: CreateL3Network, strategy: IpStrategy) -> L3Network:
        uuid, account = work.resource_uuid, work.account_uuid
        resource.create(tx, L3_NETWORK, uuid, msg.name, account=account, description=msg.description)
        values = {
            "uuid": uuid,
            "zone_uuid": msg.zone_uuid,
            "l2_network_uuid": msg.l2_network_uuid,
            "state": NetworkState.ENABLED,
            "allocator_strategy": strategy,
            "dns": msg.dns,
            "domain": msg.domain,
        }
        tx.execute(insert(l3_network).values(values))
        return self.get(tx, uuid)

    def change(self, tx: Tx, uuid: str, **values: Any) -> L3Network:
        own = {name: values[name] for name in COLUMNS if name in values}
        if own:
            tx.execute(update(l3_network).where(l3_network.c.uuid == uuid).values(own))
        resource.change(tx, L3_NETWORK, uuid, **values)
        return self.get(tx, uuid)

    def exists(self, tx: Tx, uuid: str) -> bool:
        return tx.execute(select(l3_network.c.uuid).where(l3_network.c.uuid == uuid)).first() is not None

    def lock(self, tx: Tx, uuid: str) -> None:
        """Until the commit, nobody else changes the network's addresses."""
        tx.execute(select(l3_network.c.uuid).where(l3_network.c.uuid == uuid).with_for_update())

    def last_number(self, tx: Tx, uuid: str) -> int | None:
        """The address last handed out; until the commit, nobody else learns it."""
        row = select(l3_network.c.last_number).where(l3_network.c.uuid == uuid).with_for_update()
        return tx.execute(row).scalar()

    def set_last_number(self, tx: Tx, uuid: str, number: int) -> None:
        tx.execute(update(l3_network).where(l3_network.c.uuid == uuid).values(last_number=number))

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(l3_network).where(l3_network.c.uuid == uuid))
        resource.remove(tx, uuid)
