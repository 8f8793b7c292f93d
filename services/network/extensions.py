"""What the network service does for others: it keeps VMs where their networks are, and counts networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.contracts.allocator import Candidate, HostFilter, ReserveHost
from mgmtnode.contracts.quota import QuotaDefinition, QuotaSource
from mgmtnode.db.session import Tx
from mgmtnode.extension.point import Extension

if TYPE_CHECKING:
    from services.network.repository.l2 import L2Repository
    from services.network.service import NetworkService

QUOTA_L3 = QuotaDefinition(name="network.l3", default=20, description="L3 networks of the account")


class NetworkReach:
    """Drops hosts whose zone or cluster lacks one of the VM's networks."""

    label = "networks"

    def __init__(self, l2_networks: L2Repository) -> None:
        self._l2_networks = l2_networks

    def keep(self, tx: Tx, request: ReserveHost, candidates: list[Candidate]) -> list[Candidate]:
        if not request.l3_network_uuids or not candidates:
            return candidates
        reach = self._l2_networks.reach_of(tx, request.l3_network_uuids)
        if len(reach) < len(set(request.l3_network_uuids)):
            return []  # one of them is gone
        return [
            host
            for host in candidates
            if all(
                host.zone_uuid == zone and (clusters is None or host.cluster_uuid in clusters)
                for zone, clusters in reach
            )
        ]


class NetworkQuotas:
    def quota_definitions(self) -> list[QuotaDefinition]:
        return [QUOTA_L3]


def reach(service: NetworkService) -> NetworkReach:
    return NetworkReach(service.l2_networks)


def quotas(service: NetworkService) -> NetworkQuotas:
    return NetworkQuotas()


EXTENSIONS = (Extension(point=HostFilter, make=reach), Extension(point=QuotaSource, make=quotas))
