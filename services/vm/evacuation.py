"""Freeing a host that enters maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.contracts.allocator import ListHolders
from mgmtnode.contracts.host import Host
from mgmtnode.contracts.vm import StopVm, VmState
from mgmtnode.contracts.vm_events import VM_MIGRATION_FAILED
from mgmtnode.contracts.vm_sync import MoveOff
from mgmtnode.workflow.handle import JobHandle
from services.vm.config import MAINTENANCE_POLICY, MIGRATION_QUANTITY
from services.vm.repository import VmRow

if TYPE_CHECKING:
    from services.vm.service import VmService


class Evacuation:
    """Moves the VMs of a host away, a few at a time; what cannot be moved is stopped, if the policy says so."""

    def __init__(self, service: VmService) -> None:
        self._service = service

    async def evacuate(self, job: JobHandle, host: Host) -> None:
        quantity = await self._quantity(host)
        await self._move(job, host, quantity)
        left = await self._left(host)
        stops = self._service.node.config.get(MAINTENANCE_POLICY) == "StopVmOnMigrationFailure"
        idle = [row for row in left if stops or row.state == VmState.CRASHED]
        if idle:
            await job.children(
                [(f"stop {row.uuid}", StopVm(uuid=row.uuid)) for row in idle], parallel=quantity
            )
            left = await self._left(host)
        if left:
            uuids = [row.uuid for row in left[:100]]
            what = f"{len(left)} VMs could neither be moved nor stopped"
            raise VM_MIGRATION_FAILED.error(what, resource=host.uuid, vms=uuids)

    async def _move(self, job: JobHandle, host: Host, quantity: int) -> None:
        """All that holds something of the host, so also what is just being moved or started there."""
        node = self._service.node
        holders = await node.db.read(lambda tx: tx.call(ListHolders(host_uuid=host.uuid)))
        there = {row.uuid: row for row in await self._left(host)}
        skip = {uuid for uuid, row in there.items() if row.state in (VmState.UNKNOWN, VmState.CRASHED)}
        work = [(f"move {u}", MoveOff(uuid=u, host_uuid=host.uuid)) for u in holders if u not in skip]
        await job.children(work, parallel=quantity)

    async def _quantity(self, host: Host) -> int:
        node = self._service.node
        place = {"host": host.uuid, "cluster": host.cluster_uuid, "zone": host.zone_uuid}
        return await node.db.read(lambda tx: node.config.get_for(tx, MIGRATION_QUANTITY, place))

    async def _left(self, host: Host) -> list[VmRow]:
        return await self._service.node.db.read(lambda tx: self._service.vms.on_host(tx, host.uuid))
