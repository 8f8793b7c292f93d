"""Placement: picks hosts, reserves on them, and keeps account of what they have."""

from __future__ import annotations

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.allocator import (
    NO_HOST,
    AllocatorStrategy,
    Candidate,
    FilterReport,
    GetCapacity,
    HostCapacity,
    HostFilter,
    Placement,
    ReserveHost,
    ReserveOnHost,
    ReturnHost,
)
from mgmtnode.contracts.config import GlobalConfigChanged, ResourceConfigChanged
from mgmtnode.contracts.host import Host
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.jobs import ledger
from mgmtnode.jobs.job import Caller
from mgmtnode.service import NodeContext, Service, handler, subscribe
from services.allocator import pipeline
from services.allocator.config import (
    CPU_RATIO,
    HOST_CONFIG,
    MEMORY_RATIO,
    RESERVED_CPU,
    RESERVED_MEMORY,
    STRATEGY,
)
from services.allocator.repository import CPU, MEMORY, CapacityRepository, HostRow

SHORTLIST = 50  # hosts that are looked at closely before all of them are


class AllocatorService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.hosts = CapacityRepository()

    @handler()
    def reserve(self, tx: Tx, msg: ReserveHost) -> Placement:
        shut = pipeline.closed(tx, self.node.query)
        rows = [row for row in self.hosts.fitting(tx, msg, SHORTLIST) if row not in shut]
        if placed := self._take_one(tx, msg, self._eligible(tx, msg, rows)[0]):
            return placed
        rows, reports = pipeline.run(self.hosts.all(tx), pipeline.filters(msg, shut))
        candidates, more = self._eligible(tx, msg, rows)
        if placed := self._take_one(tx, msg, candidates):
            return placed
        raise refusal(msg, reports + more)

    @handler()
    def reserve_on(self, tx: Tx, msg: ReserveOnHost) -> Nothing:
        if not self._take(tx, msg.host_uuid, msg.vm_uuid, (msg.cpu, msg.memory), force=msg.force):
            report = FilterReport(filter="capacity", before=1, after=0, reason="it has too little left")
            raise NO_HOST.error(
                f"the host {msg.host_uuid} cannot take it", resource=msg.vm_uuid, filters=[report]
            )
        return NOTHING

    @handler()
    def give_back(self, tx: Tx, msg: ReturnHost) -> Nothing:
        ledger.free(tx, msg.vm_uuid, pool_uuid=msg.host_uuid, kinds=(CPU, MEMORY))
        return NOTHING

    @handler()
    async def capacity(self, msg: GetCapacity, caller: Caller) -> HostCapacity:
        place = {"zone_uuid": msg.zone_uuid, "cluster_uuid": msg.cluster_uuid, "host_uuid": msg.host_uuid}
        return await self.node.db.read(lambda tx: self.hosts.capacity(tx, **place))

    @subscribe
    async def global_config_changed(self, event: GlobalConfigChanged) -> None:
        if event.global_config.name in {config.name for config in HOST_CONFIG}:
            await self.node.db.write(self.recalculate)

    @subscribe
    async def resource_config_changed(self, event: ResourceConfigChanged) -> None:
        if event.config in {config.name for config in HOST_CONFIG}:
            await self.node.db.write(self.recalculate)

    def recalculate(self, tx: Tx) -> None:
        """Sets every host's pools to what the settings say now."""
        for host, cluster, zone, cpu, memory in self.hosts.facts(tx):
            reserved = self.set_pools(tx, {"host": host, "cluster": cluster, "zone": zone}, cpu, memory)
            self.hosts.set_reserved(tx, host, reserved)

    def set_pools(self, tx: Tx, place: dict[str, str], cpu: int, memory: int) -> int:
        """Gives a host its pools: (has − reserved) × ratio. Returns the reserved bytes."""
        get = self.node.config.get_for
        reserved = min(memory, get(tx, RESERVED_MEMORY, place))
        threads = max(0, cpu - get(tx, RESERVED_CPU, place))
        ledger.set_pool(tx, place["host"], CPU, int(threads * get(tx, CPU_RATIO, place)))
        ledger.set_pool(tx, place["host"], MEMORY, int((memory - reserved) * get(tx, MEMORY_RATIO, place)))
        return reserved

    def know(self, tx: Tx, host: Host) -> None:
        place = {"host": host.uuid, "cluster": host.cluster_uuid, "zone": host.zone_uuid}
        reserved = self.set_pools(tx, place, host.cpu, host.memory)
        self.hosts.save(tx, host, reserved)

    def _eligible(
        self, tx: Tx, msg: ReserveHost, rows: list[HostRow]
    ) -> tuple[list[Candidate], list[FilterReport]]:
        counts = self.hosts.vms(tx, [row.host_uuid for row in rows]) if rows else {}
        candidates = [
            Candidate(
                host_uuid=row.host_uuid,
                cluster_uuid=row.cluster_uuid,
                zone_uuid=row.zone_uuid,
                hypervisor=row.hypervisor,
                cpu_free=row.cpu_free,
                memory_free=row.memory_free,
                vms=counts.get(row.host_uuid, 0),
            )
            for row in rows
        ]
        return pipeline.extend(tx, msg, candidates, self.node.extensions.all(HostFilter))

    def _take_one(self, tx: Tx, msg: ReserveHost, candidates: list[Candidate]) -> Placement | None:
        """Reserves on the first candidate, in the strategy's order, that still has the room."""
        if not candidates:
            return None
        name = msg.strategy or self.node.config.get(STRATEGY)
        strategy = self.node.extensions.pick(AllocatorStrategy, name)
        for found in strategy.sort(tx, msg, candidates):
            if self._take(tx, found.host_uuid, msg.vm_uuid, (msg.cpu, msg.memory)):
                return Placement(
                    host_uuid=found.host_uuid,
                    cluster_uuid=found.cluster_uuid,
                    zone_uuid=found.zone_uuid,
                    hypervisor=found.hypervisor,
                )
        return None

    def _take(self, tx: Tx, host: str, vm: str, amounts: tuple[int, int], *, force: bool = False) -> bool:
        taken: list[str] = []
        for kind, amount in zip((CPU, MEMORY), amounts, strict=True):
            uuid = self.node.uuids.draw()
            if amount and not ledger.reserve(tx, host, kind, amount, holder=vm, uuid=uuid, force=force):
                ledger.cancel(tx, taken)
                return False
            taken.append(uuid)
        return True


def refusal(msg: ReserveHost, reports: list[FilterReport]) -> ApiError:
    """allocator.no-host, with what each filter saw; the message names the one that dropped the last hosts."""
    if not reports or reports[0].before == 0:
        why = "there are no hosts"
    else:
        last = next((r for r in reports if r.after == 0), reports[-1])
        why = f"the filter '{last.filter}' left none of {last.before}: {last.reason or 'they do not fit'}"
    return NO_HOST.error(f"no host can take the VM: {why}", resource=msg.vm_uuid, filters=reports)
