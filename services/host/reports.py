"""What hosts say runs there, told to whom it concerns."""

from __future__ import annotations

import logging

from mgmtnode.contracts.host import HOST_NOT_CONNECTED, HostState, HostVmsReported, ReportedVm
from mgmtnode.contracts.hypervisor import HostReport
from mgmtnode.errors import ApiError
from mgmtnode.service import NodeContext
from services.host.drivers import HostDrivers
from services.host.repository import HostRecord

log = logging.getLogger(__name__)

LEAVING = (HostState.PRE_MAINTENANCE, HostState.MAINTENANCE)


class HostReports:
    def __init__(self, node: NodeContext, drivers: HostDrivers) -> None:
        self._node, self._drivers = node, drivers

    async def ask(self, record: HostRecord) -> HostReport:
        """Asks the host and tells the listeners. Raises what the driver raises."""
        report = await self._drivers.report(record)
        await self.tell(record, report)
        return report

    async def tell(self, record: HostRecord, report: HostReport) -> bool:
        """Whether all listeners took it. What leaves for maintenance is nobody's business but the flow's."""
        if record.host.state in LEAVING:
            return True

        async def again() -> list[ReportedVm]:
            newer = await self._drivers.report(record)
            if newer.identity != report.identity:
                raise HOST_NOT_CONNECTED.error("another agent answers there now", resource=record.host.uuid)
            return _vms(newer)

        vms, taken = _vms(report), True
        for listener in self._node.extensions.all(HostVmsReported):
            try:
                await listener.vms_reported(record.host, vms, again)
            except ApiError as exc:
                log.warning("host %s: its report is told again: %s", record.host.uuid, exc)
                taken = False
            except Exception:
                log.exception("host %s: somebody could not take its report", record.host.uuid)
                taken = False
        return taken

    async def unknown(self, record: HostRecord) -> bool:
        """The host has been silent for too long. Whether all listeners took that."""
        taken = True
        for listener in self._node.extensions.all(HostVmsReported):
            try:
                await listener.vms_unknown(record.host)
            except ApiError as exc:
                log.warning("host %s: that it is silent is told again: %s", record.host.uuid, exc)
                taken = False
            except Exception:
                log.exception("host %s: somebody could not take that it is silent", record.host.uuid)
                taken = False
        return taken


def _vms(report: HostReport) -> list[ReportedVm]:
    return [ReportedVm(uuid=vm.uuid, power=vm.power) for vm in report.vms]
