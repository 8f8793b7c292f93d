"""Placement: picks hosts, reserves on them, and keeps account of what they have."""

from __future__ import annotations

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.allocator import (
    NO_HOST,
    STRATEGY_UNKNOWN,
    AllocatorStrategy,
    Candidate,
    FilterReport,
    FindHosts,
    GetCapacity,
    HostCapacity,
    HostFilter,
    ListHolders,
    Placement,
    ReserveHost,
    ReserveOnHost,
    ReturnHost,
)
from mgmtnode.contracts.cluster import CLUSTER, ClusterState
from mgmtnode.contracts.config import GlobalConfigChanged, ResourceConfigChanged
from mgmtnode.contracts.host import Host
from mgmtnode.contracts.zone import ZONE, ZoneState
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.jobs import ledger
from mgmtnode.jobs.job import Caller
from mgmtnode.schema import Uuid
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
from services.allocator.placing import Placing
from services.allocator.repository import CPU, MEMORY, CapacityRepository, HostRow, Limits

RECONCILE_SECONDS = 300.0  # a change of settings is heard at once; this is for events that got lost
SHORTLIST = 20  # hosts that are looked at closely before all of them are


class AllocatorService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.hosts = CapacityRepository()
        self.placing = Placing(node.clock)

    async def start(self) -> None:
        self.node.periodic.every("allocator.reconcile", RECONCILE_SECONDS, self.reconcile)

    @handler()
    def reserve(self, tx: Tx, msg: ReserveHost) -> Placement:
        strategy = self._strategy(msg)
        candidates = self._shortlist(tx, msg, strategy, SHORTLIST)
        if placed := self._take_one(tx, msg, strategy.sort(tx, msg, candidates)):
            return placed
        rows, reports = pipeline.run(self.hosts.all(tx), pipeline.filters(msg))
        candidates, more = self._eligible(tx, msg, rows)
        if placed := self._take_one(tx, msg, strategy.sort(tx, msg, candidates)):
            return placed
        raise refusal(msg, reports + more)

    @handler()
    def find(self, tx: Tx, msg: FindHosts) -> list[Candidate]:
        request = msg.request
        strategy = self._strategy(request)
        return strategy.sort(tx, request, self._shortlist(tx, request, strategy, msg.limit))

    @handler()
    def reserve_on(self, tx: Tx, msg: ReserveOnHost) -> Nothing:
        if not self._take(tx, msg.host_uuid, msg, force=msg.force):
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
    def holders(self, tx: Tx, msg: ListHolders) -> list[Uuid]:
        return self.hosts.holders(tx, msg.host_uuid)

    @handler()
    async def capacity(self, msg: GetCapacity, caller: Caller) -> HostCapacity:
        place = {"zone_uuid": msg.zone_uuid, "cluster_uuid": msg.cluster_uuid, "host_uuid": msg.host_uuid}
        return await self.node.db.read(lambda tx: self.hosts.capacity(tx, **place))

    @subscribe
    async def global_config_changed(self, event: GlobalConfigChanged) -> None:
        await self._config_changed(event.global_config.name)

    @subscribe
    async def resource_config_changed(self, event: ResourceConfigChanged) -> None:
        await self._config_changed(event.config)

    async def _config_changed(self, name: str) -> None:
        """Every node hears it and does the hosts of its own slots."""
        if name in {config.name for config in HOST_CONFIG}:
            await self.node.config.refresh(self.node.db)  # what changed may not have reached this node yet
            await self.reconcile()

    async def reconcile(self) -> None:
        """Sets the pools of this node's hosts to what the settings say now."""
        if await self.node.db.read(self._outdated):
            await self.node.db.write(self._recalculate)

    def _outdated(self, tx: Tx) -> list[tuple[str, Limits]]:
        """The hosts of this node whose pools the settings say something else of, and what."""
        mine = (facts for facts in self.hosts.facts(tx) if self.node.slots.mine(facts.host_uuid))
        wanted = [(facts, self._limits(tx, facts.place, facts.cpu, facts.memory)) for facts in mine]
        return [(facts.host_uuid, limits) for facts, limits in wanted if limits != facts.limits]

    def _recalculate(self, tx: Tx) -> None:
        for host, limits in self._outdated(tx):
            _set_pools(tx, host, limits)
            self.hosts.set_reserved(tx, host, limits.reserved_memory)

    def _limits(self, tx: Tx, place: dict[str, str], cpu: int, memory: int) -> Limits:
        """What a host offers: (has − reserved) × ratio."""
        get = self.node.config.get_for
        reserved = min(memory, get(tx, RESERVED_MEMORY, place))
        threads = max(0, cpu - get(tx, RESERVED_CPU, place))
        return Limits(
            cpu=int(threads * get(tx, CPU_RATIO, place)),
            memory=int((memory - reserved) * get(tx, MEMORY_RATIO, place)),
            reserved_memory=reserved,
        )

    def know(self, tx: Tx, host: Host) -> None:
        place = {"host": host.uuid, "cluster": host.cluster_uuid, "zone": host.zone_uuid}
        limits = self._limits(tx, place, host.cpu, host.memory)
        _set_pools(tx, host.uuid, limits)
        if not self.hosts.knows(tx, host.uuid):
            self._meet(tx, host)
        self.hosts.save(tx, host, limits.reserved_memory)

    def _meet(self, tx: Tx, host: Host) -> None:
        """Nobody enables or disables its cluster or zone until the commit: who does then finds the host."""
        resource.hold(tx, (host.cluster_uuid, host.zone_uuid))
        cluster, zone = (
            self.node.query.get(tx, kind, uuid)
            for kind, uuid in ((CLUSTER, host.cluster_uuid), (ZONE, host.zone_uuid))
        )
        self.hosts.add(
            tx,
            host,
            cluster_open=cluster.state is ClusterState.ENABLED,
            zone_open=zone.state is ZoneState.ENABLED,
        )

    def _shortlist(
        self, tx: Tx, msg: ReserveHost, strategy: AllocatorStrategy, limit: int
    ) -> list[Candidate]:
        """Some of the hosts that can take it, those first that the strategy will prefer."""
        found = self.hosts.fitting(tx, msg, limit, fullest_first=strategy.fullest_first)
        return self._eligible(tx, msg, found)[0]

    def _eligible(
        self, tx: Tx, msg: ReserveHost, rows: list[HostRow]
    ) -> tuple[list[Candidate], list[FilterReport]]:
        candidates = [
            Candidate(
                host_uuid=row.host_uuid,
                cluster_uuid=row.cluster_uuid,
                zone_uuid=row.zone_uuid,
                hypervisor=row.hypervisor,
                cpu_free=row.cpu_free,
                memory_free=row.memory_free,
                vms=row.vms + self.placing.on(row.host_uuid),
            )
            for row in rows
        ]
        return pipeline.extend(tx, msg, candidates, self.node.extensions.all(HostFilter))

    def _strategy(self, msg: ReserveHost) -> AllocatorStrategy:
        """Raises allocator.strategy-unknown naming those that are known."""
        name = msg.strategy or self.node.config.get(STRATEGY)
        known = self.node.extensions.keys(AllocatorStrategy)
        if name not in known:
            raise STRATEGY_UNKNOWN.error(
                f"there is no allocator strategy {name!r}; known are: {', '.join(known)}", known=known
            )
        return self.node.extensions.pick(AllocatorStrategy, name)

    def _take_one(self, tx: Tx, msg: ReserveHost, candidates: list[Candidate]) -> Placement | None:
        """Reserves on the first candidate that still has the room, and on which nobody else is placing; if there is
        none, waits for those."""
        for patient in (False, True):
            for found in candidates:
                if self._take(tx, found.host_uuid, msg, patient=patient):
                    self.placing.begin(tx, found.host_uuid, msg.vm_uuid)
                    return Placement(
                        host_uuid=found.host_uuid,
                        cluster_uuid=found.cluster_uuid,
                        zone_uuid=found.zone_uuid,
                        hypervisor=found.hypervisor,
                    )
        return None

    def _take(
        self,
        tx: Tx,
        host: str,
        msg: ReserveHost | ReserveOnHost,
        *,
        force: bool = False,
        patient: bool = True,
    ) -> bool:
        wanted = {kind: amount for kind, amount in ((CPU, msg.cpu), (MEMORY, msg.memory)) if amount}
        draw = self.node.uuids.draw
        return ledger.reserve_all(
            tx, host, wanted, holder=msg.vm_uuid, draw=draw, force=force, patient=patient
        )


def _set_pools(tx: Tx, host_uuid: str, limits: Limits) -> None:
    ledger.set_pool(tx, host_uuid, CPU, limits.cpu)
    ledger.set_pool(tx, host_uuid, MEMORY, limits.memory)


def refusal(msg: ReserveHost, reports: list[FilterReport]) -> ApiError:
    """allocator.no-host, with what each filter saw; the message names the one that dropped the last hosts."""
    if not reports or reports[0].before == 0:
        why = "there are no hosts"
    else:
        last = next((r for r in reports if r.after == 0), reports[-1])
        why = f"the filter '{last.filter}' left none of {last.before}: {last.reason or 'they do not fit'}"
    return NO_HOST.error(f"no host can take the VM: {why}", resource=msg.vm_uuid, filters=reports)
