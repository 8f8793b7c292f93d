"""Deleting an instance offering: VMs forget it, then its row goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.cascade.deletion import DeletionContext, deletion_flow
from mgmtnode.contracts.offering import InstanceOfferingDeleted
from mgmtnode.db.session import Tx

if TYPE_CHECKING:
    from services.offering.service import OfferingService


def remove(service: OfferingService, tx: Tx, context: DeletionContext) -> None:
    tx.record(InstanceOfferingDeleted(resource_uuid=context.uuid))
    service.offerings.delete(tx, context.uuid)


DELETE_OFFERING = deletion_flow("instance_offering.delete", remove)
