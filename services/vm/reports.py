"""What hosts report, compared with what is recorded: each difference becomes a job on its VM."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from mgmtnode.contracts.host import Host, ReportedVm
from mgmtnode.contracts.hypervisor import VmPower
from mgmtnode.contracts.vm import VmState
from mgmtnode.contracts.vm_events import StrangerVmFound
from mgmtnode.contracts.vm_sync import DestroyStranger, ObserveVm
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND, QUEUE_FULL, ApiError
from mgmtnode.jobs.job import SYSTEM
from services.vm.config import STRANGER_POLICY
from services.vm.repository import Placed, VmRow
from services.vm.sync import ALIVE, HOMELESS, STATE_OF

if TYPE_CHECKING:
    from services.vm.service import VmService

log = logging.getLogger(__name__)


class HostReports:
    """Implements HostVmsReported. ``_strangers``: what was reported of each host already."""

    def __init__(self, service: VmService) -> None:
        self._service = service
        self._strangers: dict[str, set[str]] = {}

    async def vms_reported(self, host: Host, asked_at: datetime, vms: list[ReportedVm]) -> None:
        reported = {vm.uuid: vm.power for vm in vms if vm.power != VmPower.INCOMING}
        recorded = await self._recorded(host)
        for row in recorded:
            power = reported.get(row.uuid)
            if STATE_OF.get(power) not in (row.state, None):
                await self._observe(row.uuid, host.uuid, asked_at, power)
        known = {row.uuid for row in recorded}
        await self._look_at_others(host, asked_at, {u: p for u, p in reported.items() if u not in known})

    async def vms_unknown(self, host: Host) -> None:
        now = self._service.node.clock.now()
        for row in await self._recorded(host):
            if row.state != VmState.UNKNOWN:
                await self._observe(row.uuid, host.uuid, now, "Unknown")

    async def _recorded(self, host: Host) -> list[VmRow]:
        """The VMs of the host that no job works on."""
        return await self._service.node.db.read(lambda tx: self._service.vms.at_rest_on(tx, host.uuid))

    async def _observe(self, uuid: str, host_uuid: str, asked_at: datetime, power: str | None) -> None:
        message = ObserveVm(uuid=uuid, host_uuid=host_uuid, asked_at=asked_at, power=power)
        try:
            await self._service.node.jobs.accept(message, SYSTEM)
        except ApiError as exc:
            if exc.code not in (NOT_FOUND.id, QUEUE_FULL.id):  # it is gone, or enough is being done to it
                raise

    async def _look_at_others(self, host: Host, asked_at: datetime, powers: dict[str, str]) -> None:
        """VMs that run here and are not recorded here: come from elsewhere, or strangers, told of once."""
        node, vms = self._service.node, self._service.vms
        placed = await node.db.read(lambda tx: vms.placed(tx, list(powers))) if powers else {}
        strangers: set[str] = set()
        for uuid, power in powers.items():
            where = placed.get(uuid)
            if where is None or where.state == VmState.DESTROYED:
                strangers.add(uuid)
            elif where.busy or where.updated_at > asked_at:
                continue  # on its way here, or away
            elif where.state in HOMELESS and STATE_OF.get(power) in ALIVE:
                await self._observe(uuid, host.uuid, asked_at, power)
            else:
                strangers.add(uuid)
        fresh = strangers - self._strangers.get(host.uuid, set())
        self._strangers[host.uuid] = strangers
        for uuid in sorted(fresh):
            await self._found(host, uuid, powers[uuid], placed.get(uuid))

    async def _found(self, host: Host, uuid: str, power: str, where: Placed | None) -> None:
        node = self._service.node
        log.warning("host %s runs the VM %s, which should not be there", host.name, uuid)
        event = StrangerVmFound(resource_uuid=host.uuid, vm_uuid=uuid, power=power)
        await node.db.write(partial(_record, event))
        ours = where is not None and where.state != VmState.DESTROYED
        if node.config.get(STRANGER_POLICY) == "Destroy" and not ours:
            await node.jobs.accept(DestroyStranger(vm_uuid=uuid, host_uuid=host.uuid), SYSTEM)


def _record(event: StrangerVmFound, tx: Tx) -> None:
    tx.record(event)
