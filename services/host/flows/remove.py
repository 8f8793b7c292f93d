"""Deleting a host: first the VMs there, then the connection, then its row and what it owes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.cascade.deletion import DeletionContext, deletion_flow
from mgmtnode.contracts.host import HOST_OWES, HostCapacityChanged, HostDeleted
from mgmtnode.db.session import Tx
from mgmtnode.errors import IN_USE
from mgmtnode.jobs import ledger
from mgmtnode.workflow.flow import Step, TxStep
from mgmtnode.workflow.handle import JobHandle

if TYPE_CHECKING:
    from services.host.service import HostService


def check_free(service: HostService, tx: Tx, context: DeletionContext) -> None:
    """Nothing is there, on its way there, or owed: a host may still run what it owes to clean up, with an address that
    would be handed out again. ``force`` is for one that runs nothing any more. Raises core.in-use, host.owes."""
    if context.force:
        return
    if holders := ledger.holders(tx, context.uuid):
        raise IN_USE.error(
            f"something still takes room on the host, or is on its way there ({len(holders)}): wait, or use force",
            resource=context.uuid,
            resources=holders[:20],
        )
    if debts := service.debts.of_host(tx, context.uuid):
        raise HOST_OWES.error(
            f"the host owes to clean up {len(debts)} resources: wait, or use force if it runs no more",
            resource=context.uuid,
            resources=[debt.resource_uuid for debt in debts][:20],
        )


async def disconnect(service: HostService, job: JobHandle, context: DeletionContext) -> None:
    await service.let_go(await service.known.read(context.uuid))


def remove(service: HostService, tx: Tx, context: DeletionContext) -> None:
    check_free(service, tx, context)
    for debt in service.debts.of_host(tx, context.uuid):
        service.debts.settle(tx, debt.host_uuid, debt.resource_uuid)
    for listener in service.node.extensions.all(HostCapacityChanged):
        listener.capacity_gone(tx, context.uuid)
    tx.record(HostDeleted(resource_uuid=context.uuid))
    service.hosts.delete(tx, context.uuid)
    service.forget(tx, context.uuid)


DELETE_HOST = deletion_flow(
    "host.delete",
    remove,
    before=(TxStep("check that it is free", run=check_free), Step("disconnect", run=disconnect)),
)
