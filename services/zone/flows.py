"""Deleting a zone: first all in it, then its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.cascade.deletion import DeletionContext, deletion_flow
from mgmtnode.contracts.zone import ZoneDeleted
from mgmtnode.db.session import Tx

if TYPE_CHECKING:
    from services.zone.service import ZoneService


def remove(service: ZoneService, tx: Tx, context: DeletionContext) -> None:
    tx.record(ZoneDeleted(resource_uuid=context.uuid))
    service.zones.delete(tx, context.uuid)


DELETE_ZONE = deletion_flow("zone.delete", remove)
