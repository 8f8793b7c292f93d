"""State sync: what hosts report, compared with what is recorded, and taken over where nothing is being done."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.allocator import ReturnHost
from mgmtnode.contracts.host import Host, ReportedVm
from mgmtnode.contracts.hypervisor import VmPower
from mgmtnode.contracts.nic import ListNics
from mgmtnode.contracts.vm import VmState
from mgmtnode.contracts.vm_events import StrangerVmFound
from mgmtnode.contracts.vm_sync import ObserveVm
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import SYSTEM
from services.vm.repository import VmRow
from services.vm.state import TRANSITIONAL, TRANSITIONS

if TYPE_CHECKING:
    from services.vm.service import VmService

log = logging.getLogger(__name__)

STATE_OF = {
    VmPower.RUNNING: VmState.RUNNING,
    VmPower.PAUSED: VmState.PAUSED,
    VmPower.CRASHED: VmState.CRASHED,
    VmPower.STOPPED: VmState.STOPPED,
    "Unknown": VmState.UNKNOWN,
    None: VmState.STOPPED,
}


def nics_of(vm_uuid: str) -> ListNics:
    return ListNics(vm_uuid=vm_uuid)


def observe(service: VmService, tx: Tx, msg: ObserveVm) -> Nothing:
    """Takes over an observation, unless the VM has changed since it was made."""
    vm = service.vms.inventory(tx, msg.uuid)
    after = STATE_OF.get(msg.power)
    stale = vm.host_uuid != msg.host_uuid or vm.updated_at > msg.asked_at or vm.state in TRANSITIONAL
    if stale or after is None or after == vm.state or after not in TRANSITIONS[vm.state]:
        return NOTHING
    row = service.vms.get(tx, msg.uuid)
    if after == VmState.STOPPED:
        service.vms.move(tx, row, after, cause="sync", host_uuid=None, last_host_uuid=row.host_uuid)
        tx.call(ReturnHost(vm_uuid=msg.uuid))
    else:
        service.vms.move(tx, row, after, cause="sync")
    return NOTHING


class HostReports:
    """Implements HostVmsReported: finds what differs and has it taken over by one job a VM."""

    def __init__(self, service: VmService) -> None:
        self._service = service
        self._strangers: set[tuple[str, str]] = set()

    async def vms_reported(self, host: Host, asked_at: datetime, vms: list[ReportedVm]) -> None:
        reported = {vm.uuid: vm.power for vm in vms if vm.power != VmPower.INCOMING}
        recorded = await self._service.node.db.read(lambda tx: self._service.vms.at_rest_on(tx, host.uuid))
        for row in recorded:
            power = reported.get(row.uuid)
            if STATE_OF.get(power) not in (row.state, None):
                await self._observe(row, host.uuid, asked_at, power)
        known = {row.uuid for row in recorded}
        await self._look_at_strangers(host, [uuid for uuid in reported if uuid not in known])

    async def vms_unknown(self, host: Host) -> None:
        node = self._service.node
        recorded = await node.db.read(lambda tx: self._service.vms.at_rest_on(tx, host.uuid))
        for row in recorded:
            if row.state != VmState.UNKNOWN:
                await self._observe(row, host.uuid, node.clock.now(), "Unknown")

    async def _observe(self, row: VmRow, host_uuid: str, asked_at: datetime, power: str | None) -> None:
        message = ObserveVm(uuid=row.uuid, host_uuid=host_uuid, asked_at=asked_at, power=power)
        await self._service.node.jobs.accept(message, SYSTEM)

    async def _look_at_strangers(self, host: Host, uuids: list[str]) -> None:
        """Reports, once, each VM that runs here and is not recorded anywhere."""
        fresh = [uuid for uuid in uuids if (host.uuid, uuid) not in self._strangers]
        if not fresh:
            return
        placed = await self._service.node.db.read(lambda tx: self._service.vms.placed(tx, fresh))
        for uuid in fresh:
            if uuid in placed:
                continue  # being worked on, or on its way here
            self._strangers.add((host.uuid, uuid))
            log.warning("host %s runs the VM %s, which nobody knows", host.name, uuid)
            event = StrangerVmFound(resource_uuid=host.uuid, vm_uuid=uuid, power="Running")
            await self._service.node.db.write(partial(_record, event))


def _record(event: StrangerVmFound, tx: Tx) -> None:
    tx.record(event)
