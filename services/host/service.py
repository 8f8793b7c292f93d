"""Hosts: add, change, watch, maintain, remove; and the one road of commands to them."""

from __future__ import annotations

import logging

from mgmtnode.bus.message import Event
from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.contracts.cluster import CLUSTER
from mgmtnode.contracts.host import (
    AddHost,
    DeleteHost,
    DisableHost,
    EnableHost,
    Host,
    HostAdded,
    HostCapacityChanged,
    HostChanged,
    HostConnected,
    HostDeleted,
    HostDisconnected,
    HostStatus,
    MaintainHost,
    ReconnectHost,
    SettleDebt,
    UpdateHost,
)
from mgmtnode.contracts.hypervisor import PerformOnHost, SealedVm, SealOnHost, VmAction, VmOnHost, VmPower
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import NodeContext, Service, handler, job, validate
from services.host import validate as check
from services.host.config import SYNC_LEVEL
from services.host.debts import DebtCollector, HostDebts
from services.host.drivers import HostDrivers
from services.host.flows.add import ADD_HOST, AddContext, context_for
from services.host.flows.connecting import ConnectContext
from services.host.flows.maintain import MAINTAIN_HOST, MaintainContext
from services.host.flows.reconnect import ENABLE_HOST, RECONNECT_HOST, EnableContext
from services.host.flows.remove import DELETE_HOST
from services.host.flows.settle import SETTLE_DEBT, SettleContext
from services.host.known import KnownHosts
from services.host.registers import HostRegisters
from services.host.reports import HostReports
from services.host.repository import HostRecord, HostRepository
from services.host.state import Wish, after
from services.host.watcher import HostWatcher

log = logging.getLogger(__name__)

LEFT_IN: dict[VmAction, VmPower] = {
    VmAction.STOP: VmPower.STOPPED,
    VmAction.DESTROY: VmPower.STOPPED,
    VmAction.MIGRATE: VmPower.STOPPED,
    VmAction.PAUSE: VmPower.PAUSED,
    VmAction.PREPARE_MIGRATION: VmPower.INCOMING,
}
HOST_EVENTS = (HostAdded, HostChanged, HostConnected, HostDisconnected, HostDeleted)


class HostService(Service):
    hosts: HostRepository

    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.hosts = HostRepository(node.query, self._account)
        self.known = KnownHosts(node.db, self.hosts)
        self.drivers = HostDrivers(node)
        self.reports = HostReports(node, self.drivers)
        self.debts = HostDebts(node)
        self.watcher = HostWatcher(
            node, hosts=self.hosts, known=self.known, reports=self.reports, drivers=self.drivers
        )
        self.collector = DebtCollector(node, self.known, self.debts)
        self.registers = HostRegisters(node, self.known, self.drivers)
        for event in HOST_EVENTS:
            node.bus.subscribe(event, self._changed)

    async def start(self) -> None:
        self.watcher.start()
        self.collector.start()
        self.registers.start()

    async def stop(self) -> None:
        await self.watcher.stop()

    # what operators ask for

    @validate
    def check_add(self, tx: Tx, msg: AddHost, caller: Caller) -> None:
        check.parameters(msg.parameters)
        cluster = self.node.query.get(tx, CLUSTER, msg.cluster_uuid)
        check.hypervisor(cluster, msg.hypervisor)
        self.drivers.of(cluster.hypervisor)
        self.hosts.check_address(tx, msg.management_ip)

    @job(ADD_HOST)
    def add(self, msg: AddHost, work: WorkToken) -> AddContext:
        return context_for(msg, work.resource_uuid, work.account_uuid)

    @job()
    def update(self, tx: Tx, msg: UpdateHost) -> Host:
        sent = changes(msg, "uuid")
        if "management_ip" in sent:
            self.hosts.check_address(tx, sent["management_ip"], but=msg.uuid)
        return self._record(tx, self.hosts.change(tx, msg.uuid, **sent))

    @job(ENABLE_HOST)
    def enable(self, msg: EnableHost, work: WorkToken) -> EnableContext:
        return EnableContext(uuid=msg.uuid)

    @job()
    def disable(self, tx: Tx, msg: DisableHost) -> Host:
        state = after(msg.uuid, self.hosts.get(tx, msg.uuid).state, Wish.DISABLE)
        return self._record(tx, self.hosts.change(tx, msg.uuid, state=state))

    @job(MAINTAIN_HOST)
    def maintain(self, msg: MaintainHost, work: WorkToken) -> MaintainContext:
        return MaintainContext(uuid=msg.uuid)

    @job(RECONNECT_HOST)
    def reconnect(self, msg: ReconnectHost, work: WorkToken) -> ConnectContext:
        return ConnectContext(uuid=msg.uuid)

    @job(DELETE_HOST)
    def delete(self, msg: DeleteHost, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind="host", force=msg.force)

    @job(SETTLE_DEBT)
    def settle(self, msg: SettleDebt, work: WorkToken) -> SettleContext:
        return SettleContext(resource_uuid=msg.resource_uuid, host_uuid=msg.host_uuid)

    # what other services ask for

    @handler(serial="host:{host_uuid}", level=SYNC_LEVEL)
    async def perform(self, msg: PerformOnHost) -> VmOnHost:
        """Raises host.not-connected, core.not-found, and what the driver raises."""
        record = await self.known.connected(msg.host_uuid)
        command = msg.command
        try:
            await self.drivers.of(record.host.hypervisor).perform(record.address, command)
        finally:
            self.watcher.commanded(msg.host_uuid)
        power = LEFT_IN.get(command.action, VmPower.RUNNING)
        return VmOnHost(uuid=command.vm.uuid, power=power, cpu=command.vm.cpu, memory=command.vm.memory)

    @handler()
    async def seal(self, msg: SealOnHost) -> SealedVm:
        """Not in the queue of commands: it is the agent that makes it wait for the one that runs. A host that
        counts as disconnected is tried all the same."""
        record = await self.known.get(msg.host_uuid)
        return await self.drivers.of(record.host.hypervisor).seal(record.address, msg.vm_uuid, msg.fence)

    # what its flows use

    def forget(self, tx: Tx, uuid: str) -> None:
        """The row changes in ``tx``: what is remembered of it is void once that is committed."""
        tx.after_commit(lambda: self.known.forget(uuid))

    async def let_go(self, record: HostRecord) -> None:
        """Closes what was opened for the host. One that does not answer any more is let go all the same."""
        try:
            await self.drivers.disconnect(record)
        except ApiError as exc:
            log.warning("host %s: not told that it leaves: %s", record.host.uuid, exc)

    def _account(self, tx: Tx, host: Host) -> None:
        """Tells who keeps account of hosts. One that was never connected has nothing to account for."""
        if host.status is HostStatus.CONNECTING and not host.memory:
            return
        for listener in self.node.extensions.all(HostCapacityChanged):
            listener.capacity_known(tx, host)

    async def _changed(self, event: Event) -> None:
        self.known.forget(event.resource_uuid)
        if isinstance(event, HostDeleted):
            self.watcher.drop(event.resource_uuid)
            return
        self.watcher.watch(event.resource_uuid)
        if isinstance(event, HostChanged):
            self.watcher.rounds.poke(event.resource_uuid)  # its address may be another one

    def _record(self, tx: Tx, host: Host) -> Host:
        tx.record(HostChanged(resource_uuid=host.uuid, host=host))
        self.forget(tx, host.uuid)
        return host
