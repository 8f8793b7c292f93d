"""Deleting a host: first the VMs there, then the connection, then its row and what it owes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.cascade.deletion import DeletionContext, deletion_flow
from mgmtnode.contracts.host import HostCapacityChanged, HostDeleted
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Step
from mgmtnode.workflow.handle import JobHandle

if TYPE_CHECKING:
    from services.host.service import HostService


async def disconnect(service: HostService, job: JobHandle, context: DeletionContext) -> None:
    await service.let_go(await service.known.read(context.uuid))


def remove(service: HostService, tx: Tx, context: DeletionContext) -> None:
    for debt in service.debts.of_host(tx, context.uuid):
        service.debts.settle(tx, debt.host_uuid, debt.resource_uuid)
    for listener in service.node.extensions.all(HostCapacityChanged):
        listener.capacity_gone(tx, context.uuid)
    tx.record(HostDeleted(resource_uuid=context.uuid))
    service.hosts.delete(tx, context.uuid)
    service.forget(tx, context.uuid)


DELETE_HOST = deletion_flow("host.delete", remove, before=(Step("disconnect", run=disconnect),))
