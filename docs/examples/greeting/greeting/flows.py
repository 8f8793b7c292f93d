"""Taking a greeting down: what is below first (nothing, here), then its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greeting.contract import GreetingDeleted
from mgmtnode.cascade.deletion import DeletionContext, deletion_flow
from mgmtnode.db.session import Tx

if TYPE_CHECKING:
    from greeting.service import GreetingService


def remove(service: GreetingService, tx: Tx, context: DeletionContext) -> None:
    tx.record(GreetingDeleted(resource_uuid=context.uuid))
    service.greetings.delete(tx, context.uuid)


DELETE_GREETING = deletion_flow("greeting.delete", remove)
