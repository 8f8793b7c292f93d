"""The only SQL on zones."""

from __future__ import annotations

from sqlalchemy import delete, insert, update

from mgmtnode.contracts.zone import ZONE, Zone, ZoneState
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.query.engine import Query
from services.zone.models import zone


class ZoneRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> Zone:
        found: Zone = self._query.get(tx, ZONE, uuid)
        return found

    def insert(self, tx: Tx, uuid: str, name: str, description: str, account: str) -> Zone:
        resource.create(tx, ZONE, uuid, name, account=account, description=description)
        tx.execute(insert(zone).values(uuid=uuid, state=ZoneState.ENABLED))
        return self.get(tx, uuid)

    def set_state(self, tx: Tx, uuid: str, state: ZoneState) -> Zone:
        tx.execute(update(zone).where(zone.c.uuid == uuid).values(state=state))
        resource.change(tx, ZONE, uuid)
        return self.get(tx, uuid)

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(zone).where(zone.c.uuid == uuid))
        resource.remove(tx, uuid)
