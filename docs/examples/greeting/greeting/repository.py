"""The only SQL on greetings."""

from __future__ import annotations

from sqlalchemy import delete, insert

from greeting.contract import GREETING, CreateGreeting, Greeting
from greeting.models import greeting
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.query.engine import Query


class GreetingRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> Greeting:
        return self._query.get(tx, GREETING, uuid)

    def insert(self, tx: Tx, msg: CreateGreeting, text: str) -> Greeting:
        uuid, account = tx.job.resource_uuid, tx.job.account_uuid
        resource.create(tx, GREETING, uuid, msg.name, account=account, description=msg.description)
        tx.execute(insert(greeting).values(uuid=uuid, zone_uuid=msg.zone_uuid, text=text))
        return self.get(tx, uuid)

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(greeting).where(greeting.c.uuid == uuid))
        resource.remove(tx, uuid)
