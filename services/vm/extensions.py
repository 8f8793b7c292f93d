"""What this service adds to others: quotas, the evacuation of hosts, and ears for what hosts report."""

from __future__ import annotations

from mgmtnode.contracts.host import HostEvacuation, HostVmsReported
from mgmtnode.contracts.quota import QuotaDefinition, QuotaSource
from mgmtnode.extension.point import Extension
from services.vm.evacuation import Evacuation
from services.vm.reports import HostReports

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


EXTENSIONS = (
    Extension(QuotaSource, lambda service: VmQuotas()),
    Extension(HostEvacuation, Evacuation),
    Extension(HostVmsReported, HostReports),
)
