"""Placement: which host a VM goes to, and what hosts have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from mgmtnode.bus.message import Api, ApiCall, InTx, Nothing
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.extension.point import extension_point, strategy
from mgmtnode.schema import Data, Ref, Uuid

if TYPE_CHECKING:
    from mgmtnode.db.session import Tx


class Placement(Data):
    """Where a VM goes."""

    host_uuid: Uuid
    cluster_uuid: Uuid
    zone_uuid: Uuid
    hypervisor: str


class Candidate(Data):
    """A host that passed all filters so far. Amounts are what new reservations may still take."""

    host_uuid: Uuid
    cluster_uuid: Uuid
    zone_uuid: Uuid
    hypervisor: str
    cpu_free: int
    memory_free: int
    vms: int


class FilterReport(Data):
    """One filter of a refusal: how many hosts it saw and left, and why it dropped the others."""

    filter: str
    before: int
    after: int
    reason: str = ""


class ReserveHost(InTx[Placement], frozen=True, kw_only=True):
    """Picks a host and reserves on it, for ``vm_uuid``, in the caller's transaction.

    Designations (zone, cluster, host) must all hold. ``avoid`` are hosts to keep away from. ``system_tags`` are the
    VM's, for tag filters. Raises allocator.no-host with details.filters: a FilterReport list.
    """

    vm_uuid: Uuid
    cpu: int
    memory: int
    hypervisor: str | None = None
    zone_uuid: Uuid | None = None
    cluster_uuid: Uuid | None = None
    host_uuid: Uuid | None = None
    l3_network_uuids: list[Uuid] = []
    avoid: list[Uuid] = []
    last_host_uuid: Uuid | None = None
    strategy: str = ""
    system_tags: list[str] = []


class FindHosts(InTx[list[Candidate]], frozen=True, kw_only=True):
    """The hosts that would be tried for ``request``, in the strategy's order, at most ``limit``; reserves nothing."""

    request: ReserveHost
    limit: int = 100


class ReserveOnHost(InTx[Nothing], frozen=True, kw_only=True):
    """Takes capacity on a host for a VM found there, or more for one that grows; ``force`` also beyond the limit.
    Raises allocator.no-host."""

    vm_uuid: Uuid
    host_uuid: Uuid
    cpu: int
    memory: int
    force: bool = False


class ReturnHost(InTx[Nothing], frozen=True, kw_only=True):
    """Gives back what ``vm_uuid`` holds, on one host or on all. Nothing held is success."""

    vm_uuid: Uuid
    host_uuid: Uuid | None = None


class ListHolders(InTx[list[Uuid]], frozen=True, kw_only=True):
    """The VMs that hold memory of a host: those on it, and those on their way there."""

    host_uuid: Uuid


class HostCapacity(Data):
    """Capacity of a host, a cluster, a zone or the installation, in virtual CPUs and bytes.

    ``total`` is what VMs can have: without what is reserved for the hosts themselves, after over-provisioning.
    ``free`` is what new VMs can take now: that of hosts that are disabled or not connected does not count.
    """

    cpu_total: int
    cpu_used: int
    cpu_free: int
    memory_total: int
    memory_reserved: int
    memory_used: int
    memory_free: int
    hosts: int


class GetCapacity(ApiCall[HostCapacity], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "capacity.read", "GET", "/capacity", "Free CPU and memory, by zone, cluster or host", admin=True
    )

    zone_uuid: Annotated[Uuid, Ref("zone")] | None = None
    cluster_uuid: Annotated[Uuid, Ref("cluster")] | None = None
    host_uuid: Annotated[Uuid, Ref("host")] | None = None


@strategy
class AllocatorStrategy(Protocol):
    """Orders the candidates that passed all filters; the first that can be reserved wins. Keyed by its name.

    ``fullest_first``: of many hosts that fit, those with the least left are looked at, not those with the most.
    """

    fullest_first: bool

    def sort(self, tx: Tx, request: ReserveHost, candidates: list[Candidate]) -> list[Candidate]: ...


@extension_point
class PlaceChanged(Protocol):
    """Somebody keeps account of where VMs may be placed. Called in the transaction that enables or disables a cluster
    or a zone, once that has written its resource's row."""

    def place_changed(self, tx: Tx, place_uuid: str, enabled: bool) -> None: ...


@extension_point
class HostFilter(Protocol):
    """A further filter of the pipeline. ``label`` names it in refusals."""

    label: str

    def keep(self, tx: Tx, request: ReserveHost, candidates: list[Candidate]) -> list[Candidate]: ...


NO_HOST = ErrorCode("allocator.no-host", Category.NO_CAPACITY, "no host can take the VM")
STRATEGY_UNKNOWN = ErrorCode(
    "allocator.strategy-unknown", Category.INVALID, "there is no such allocator strategy"
)
