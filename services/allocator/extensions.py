"""What this service adds to others: the strategies, and the account of what hosts have."""

from __future__ import annotations

from mgmtnode.contracts.allocator import AllocatorStrategy, PlaceChanged
from mgmtnode.contracts.host import Host, HostCapacityChanged
from mgmtnode.db.session import Tx
from mgmtnode.extension.point import Extension
from mgmtnode.jobs import ledger
from services.allocator.service import AllocatorService
from services.allocator.strategies import LastHostPreferred, LeastVmPreferred, Packed, Random


class HostAccount:
    """Follows what hosts have and how they are, in the transactions of the host service."""

    def __init__(self, allocator: AllocatorService) -> None:
        self._allocator = allocator

    def capacity_known(self, tx: Tx, host: Host) -> None:
        self._allocator.know(tx, host)

    def capacity_gone(self, tx: Tx, host_uuid: str) -> None:
        ledger.drop_pools(tx, host_uuid)


class PlaceAccount:
    """Follows which clusters and zones are open, in the transactions of their services."""

    def __init__(self, allocator: AllocatorService) -> None:
        self._allocator = allocator

    def place_changed(self, tx: Tx, place_uuid: str, enabled: bool) -> None:
        self._allocator.hosts.set_open(tx, place_uuid, enabled=enabled)


EXTENSIONS = (
    Extension(PlaceChanged, PlaceAccount),
    Extension(HostCapacityChanged, HostAccount),
    Extension(
        AllocatorStrategy, lambda s: LeastVmPreferred(s.node.slots, s.node.rng), key="LeastVmPreferred"
    ),
    Extension(
        AllocatorStrategy, lambda s: LastHostPreferred(s.node.slots, s.node.rng), key="LastHostPreferred"
    ),
    Extension(AllocatorStrategy, lambda s: Random(s.node.rng), key="Random"),
    Extension(AllocatorStrategy, lambda s: Packed(), key="Packed"),
)
