"""The only SQL on instance offerings."""

from __future__ import annotations

from sqlalchemy import delete, insert, update

from mgmtnode.contracts.offering import (
    INSTANCE_OFFERING,
    CreateInstanceOffering,
    InstanceOffering,
    OfferingState,
)
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import WorkToken
from mgmtnode.query.engine import Query
from services.offering.models import instance_offering


class OfferingRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> InstanceOffering:
        found: InstanceOffering = self._query.get(tx, INSTANCE_OFFERING, uuid)
        return found

    def insert(self, tx: Tx, work: WorkToken, msg: CreateInstanceOffering) -> InstanceOffering:
        uuid, account = work.resource_uuid, work.account_uuid
        resource.create(tx, INSTANCE_OFFERING, uuid, msg.name, account=account, description=msg.description)
        values = {
            "uuid": uuid,
            "cpu": msg.cpu,
            "memory": msg.memory,
            "state": OfferingState.ENABLED,
            "allocator_strategy": msg.allocator_strategy,
        }
        tx.execute(insert(instance_offering).values(values))
        return self.get(tx, uuid)

    def set_state(self, tx: Tx, uuid: str, state: OfferingState) -> InstanceOffering:
        tx.execute(update(instance_offering).where(instance_offering.c.uuid == uuid).values(state=state))
        resource.change(tx, INSTANCE_OFFERING, uuid)
        return self.get(tx, uuid)

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(instance_offering).where(instance_offering.c.uuid == uuid))
        resource.remove(tx, uuid)
