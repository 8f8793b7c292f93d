"""Greetings: hang up, change, take down."""

from __future__ import annotations

from greeting.config import WORD
from greeting.contract import (
    GREETING,
    NOT_POLITE,
    CreateGreeting,
    DeleteGreeting,
    Greeting,
    GreetingCreated,
    UpdateGreeting,
)
from greeting.flows import DELETE_GREETING
from greeting.repository import GreetingRepository
from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import NodeContext, Service, job, validate


class GreetingService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.greetings = GreetingRepository(node.query)

    @validate
    def polite(self, tx: Tx, msg: CreateGreeting, caller: Caller) -> None:
        if msg.name.isupper():
            raise NOT_POLITE.error(f"do not shout at {msg.name.title()}", name=msg.name)

    @job()
    def create(self, tx: Tx, msg: CreateGreeting) -> Greeting:
        word = self.node.config.get_for(tx, WORD, {"zone": msg.zone_uuid})
        greeting = self.greetings.insert(tx, msg, f"{word}, {msg.name}!")
        tx.record(GreetingCreated(resource_uuid=greeting.uuid, greeting=greeting))
        return greeting

    @job()
    def update(self, tx: Tx, msg: UpdateGreeting) -> Greeting:
        resource.change(tx, GREETING, msg.uuid, **changes(msg, "uuid"))
        return self.greetings.get(tx, msg.uuid)

    @job(DELETE_GREETING)
    def delete(self, msg: DeleteGreeting, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind="greeting", force=msg.force)
