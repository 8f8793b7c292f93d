"""Deleting networks and ranges: NICs are detached, then the rows go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mgmtnode.cascade.deletion import DeletionContext, deletion_flow
from mgmtnode.contracts.ip_range import IpRangeDeleted
from mgmtnode.contracts.l2_network import L2NetworkDeleted
from mgmtnode.contracts.network import NETWORK_IN_USE, L3NetworkDeleted
from mgmtnode.contracts.quota import ReleaseQuota
from mgmtnode.contracts.vm import DetachNic
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.jobs import ledger
from mgmtnode.workflow.flow import Step
from mgmtnode.workflow.handle import JobHandle

if TYPE_CHECKING:
    from services.network.handlers.parts import Parts

PARALLEL = 10


async def detach_nics(service: Parts, job: JobHandle, context: DeletionContext) -> None:
    """Takes the NICs from their VMs. A VM that cannot be reached loses its NIC's row only, when the network goes."""
    users = await service.node.db.read(lambda tx: service.nics.users(tx, context.uuid))
    if users and not context.force:
        raise NETWORK_IN_USE.error(f"{len(users)} NICs of VMs use it", resource=context.uuid)
    gate = asyncio.Semaphore(PARALLEL)

    async def detach(nic_uuid: str, vm_uuid: str) -> None:
        async with gate:
            try:
                await job.child(DetachNic(uuid=vm_uuid, nic_uuid=nic_uuid), key=f"detach:{nic_uuid}")
            except ApiError:
                return  # refused: the VM went in between, or is not the caller's; what is left goes with the network

    async with asyncio.TaskGroup() as group:
        for nic_uuid, vm_uuid in users:
            group.create_task(detach(nic_uuid, vm_uuid))


DETACH_NICS = Step("detach NICs", run=detach_nics)


def remove_l2(service: Parts, tx: Tx, context: DeletionContext) -> None:
    if service.l2_networks.exists(tx, context.uuid):
        tx.record(L2NetworkDeleted(resource_uuid=context.uuid))
        service.l2_networks.delete(tx, context.uuid)


def remove_l3(service: Parts, tx: Tx, context: DeletionContext) -> None:
    """A zone's deletion may reach a network on two ways: that it is gone is no fault."""
    if not service.l3_networks.exists(tx, context.uuid):
        return
    _let_go(service, tx, context)
    for uuid in service.ranges.of_network(tx, context.uuid):
        tx.record(IpRangeDeleted(resource_uuid=uuid))
        service.ranges.delete(tx, uuid)
    ledger.drop_pools(tx, context.uuid)
    tx.call(ReleaseQuota(resource_uuid=context.uuid))
    tx.record(L3NetworkDeleted(resource_uuid=context.uuid))
    service.l3_networks.delete(tx, context.uuid)


def remove_range(service: Parts, tx: Tx, context: DeletionContext) -> None:
    if service.ranges.exists(tx, context.uuid):
        _let_go(service, tx, context)
        tx.record(IpRangeDeleted(resource_uuid=context.uuid))
        service.ranges.delete(tx, context.uuid)


def _let_go(service: Parts, tx: Tx, context: DeletionContext) -> None:
    """Removes the NICs that could not be detached. Raises network.in-use if that is not wanted."""
    if context.force:
        service.free(tx, service.nics.remove_users(tx, context.uuid))
    else:
        service.refuse_if_used(tx, context.uuid)


DELETE_L2_NETWORK = deletion_flow("l2_network.delete", remove_l2)
DELETE_L3_NETWORK = deletion_flow("l3_network.delete", remove_l3, before=(DETACH_NICS,))
DELETE_IP_RANGE = deletion_flow("ip_range.delete", remove_range, before=(DETACH_NICS,))
