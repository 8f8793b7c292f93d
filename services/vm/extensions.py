"""What this service adds to others: quotas, the evacuation of hosts, and ears for what hosts report."""

from __future__ import annotations

from mgmtnode.contracts.host import Host, HostEvacuation, HostVmsReported
from mgmtnode.contracts.quota import QuotaDefinition, QuotaSource
from mgmtnode.contracts.vm import MigrateVm, StopVm, VmState
from mgmtnode.contracts.vm_events import VM_MIGRATION_FAILED
from mgmtnode.extension.point import Extension
from mgmtnode.jobs.job import Job, JobState
from mgmtnode.workflow.handle import JobHandle
from services.vm.config import MAINTENANCE_POLICY, MIGRATION_QUANTITY
from services.vm.service import VmService
from services.vm.sync import HostReports

TIB = 1 << 40


class VmQuotas:
    def quota_definitions(self) -> list[QuotaDefinition]:
        return [
            QuotaDefinition(
                name="vm.num", default=100, description="VMs, destroyed ones included", unit="VMs"
            ),
            QuotaDefinition(name="vm.cpu", default=400, description="virtual CPUs of all VMs", unit="CPUs"),
            QuotaDefinition(name="vm.memory", default=1 * TIB, description="memory of all VMs", unit="bytes"),
        ]


class Evacuation:
    """Moves the VMs of a host away, a few at a time; what cannot be moved is stopped, if the policy says so."""

    def __init__(self, service: VmService) -> None:
        self._service = service

    async def evacuate(self, job: JobHandle, host: Host) -> None:
        node = self._service.node
        place = {"host": host.uuid, "cluster": host.cluster_uuid, "zone": host.zone_uuid}
        rows = await node.db.read(lambda tx: self._service.vms.on_host(tx, host.uuid))
        quantity = await node.db.read(lambda tx: node.config.get_for(tx, MIGRATION_QUANTITY, place))
        movable = [row.uuid for row in rows if row.state != VmState.UNKNOWN]
        moved = await job.children(
            [(f"migrate {uuid}", MigrateVm(uuid=uuid)) for uuid in movable], parallel=quantity
        )
        left = _failed(movable, moved)
        if left and node.config.get(MAINTENANCE_POLICY) == "StopVmOnMigrationFailure":
            stopped = await job.children(
                [(f"stop {uuid}", StopVm(uuid=uuid)) for uuid in left], parallel=quantity
            )
            left = _failed(left, stopped)
        if left:
            raise VM_MIGRATION_FAILED.error(
                f"{len(left)} VMs could neither be moved nor stopped", resource=host.uuid, vms=left[:100]
            )


def _failed(uuids: list[str], jobs: list[Job]) -> list[str]:
    return [uuid for uuid, job in zip(uuids, jobs, strict=True) if job.state is not JobState.SUCCEEDED]


EXTENSIONS = (
    Extension(QuotaSource, lambda service: VmQuotas()),
    Extension(HostEvacuation, Evacuation),
    Extension(HostVmsReported, HostReports),
)
