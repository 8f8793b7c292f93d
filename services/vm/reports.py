"""What hosts report, compared with what is recorded: each difference becomes a job on its VM."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from mgmtnode.contracts.host import AskAgain, Host, ReportedVm
from mgmtnode.contracts.hypervisor import VmPower
from mgmtnode.contracts.vm import VmState
from mgmtnode.contracts.vm_events import StrangerVmFound
from mgmtnode.contracts.vm_sync import DestroyStranger, ObserveVm
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND, QUEUE_FULL, ApiError
from mgmtnode.jobs.job import SYSTEM
from services.vm.config import STRANGER_POLICY
from services.vm.repository import Placed
from services.vm.sync import ALIVE, HOMELESS, STATE_OF

if TYPE_CHECKING:
    from services.vm.service import VmService

log = logging.getLogger(__name__)

Powers = Mapping[str, str]


class HostReports:
    """Implements HostVmsReported. ``_strangers``: what was reported of each host already."""

    def __init__(self, service: VmService) -> None:
        self._service = service
        self._strangers: dict[str, set[str]] = {}

    async def vms_reported(self, host: Host, vms: list[ReportedVm], again: AskAgain) -> None:
        """A VM may have changed since the host was asked. So where a report differs from what is recorded, the host is
        asked again, and its answer is newer than what it is compared with; each observation says which revision of the
        VM that was."""
        reported = _powers(vms)
        recorded = await self._recorded(host, reported)
        differing = [
            u for u in recorded.keys() | reported.keys() if _differs(host, recorded.get(u), reported.get(u))
        ]
        if differing:
            now = _powers(await again())
            reported = {uuid: now[uuid] for uuid in differing if uuid in now}
        strangers: set[str] = set()
        for uuid in sorted(differing):
            row, power = recorded.get(uuid), reported.get(uuid)
            if not _differs(host, row, power):
                continue
            if row is not None and _observable(host, row, power):
                await self._observe(uuid, host.uuid, row.revision, power)
            elif power is not None:
                strangers.add(uuid)
        await self._tell_of(host, strangers, recorded, reported)

    async def vms_unknown(self, host: Host) -> None:
        for uuid, row in (await self._recorded(host, ())).items():
            if row.state != VmState.UNKNOWN and not row.busy:
                await self._observe(uuid, host.uuid, row.revision, "Unknown")

    async def _recorded(self, host: Host, others: Iterable[str]) -> dict[str, Placed]:
        """The VMs of the host, and those of ``others`` that exist."""
        vms, uuids = self._service.vms, list(others)
        return await self._service.node.db.read(
            lambda tx: vms.placed_on(tx, host.uuid) | vms.placed(tx, uuids)
        )

    async def _observe(self, uuid: str, host_uuid: str, revision: int, power: str | None) -> None:
        message = ObserveVm(uuid=uuid, host_uuid=host_uuid, revision=revision, power=power)
        try:
            await self._service.node.jobs.accept(message, SYSTEM)
        except ApiError as exc:
            if exc.code not in (NOT_FOUND.id, QUEUE_FULL.id):  # it is gone, or enough is being done to it
                raise

    async def _tell_of(
        self, host: Host, strangers: set[str], recorded: Mapping[str, Placed], powers: Powers
    ) -> None:
        """Strangers are told of once. One of ours that was not there before may just have come here."""
        fresh = strangers - self._strangers.get(host.uuid, set())
        self._strangers[host.uuid] = strangers
        if not fresh:
            return
        vms = self._service.vms
        now = await self._service.node.db.read(lambda tx: vms.placed(tx, sorted(fresh)))
        for uuid in sorted(fresh):
            if now.get(uuid) == recorded.get(uuid):
                await self._found(host, uuid, powers[uuid], now.get(uuid))
            else:
                strangers.discard(uuid)

    async def _found(self, host: Host, uuid: str, power: str, where: Placed | None) -> None:
        node = self._service.node
        log.warning("host %s runs the VM %s, which should not be there", host.name, uuid)
        event = StrangerVmFound(resource_uuid=host.uuid, vm_uuid=uuid, power=power)
        await node.db.write(partial(_record, event))
        ours = where is not None and where.state != VmState.DESTROYED
        if node.config.get(STRANGER_POLICY) == "Destroy" and not ours:
            await node.jobs.accept(DestroyStranger(vm_uuid=uuid, host_uuid=host.uuid), SYSTEM)


def _powers(vms: list[ReportedVm]) -> Powers:
    return {vm.uuid: vm.power for vm in vms if vm.power != VmPower.INCOMING}


def _differs(host: Host, row: Placed | None, power: str | None) -> bool:
    """Whether a VM is not as it is recorded; one that a job works on is as it should be."""
    if row is not None and row.busy:
        return False
    if row is None or row.host_uuid != host.uuid:
        return power is not None
    return STATE_OF.get(power) not in (row.state, None)


def _observable(host: Host, row: Placed, power: str | None) -> bool:
    """Whether the VM may be as reported, and not a second one, or one that should be no more."""
    return row.host_uuid == host.uuid or (row.state in HOMELESS and STATE_OF.get(power) in ALIVE)


def _record(event: StrangerVmFound, tx: Tx) -> None:
    tx.record(event)
