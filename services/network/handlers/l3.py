"""L3 networks: create, change, enable, disable, delete; how many addresses they have left."""

from __future__ import annotations

from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.contracts.l2_network import ZONE_MISMATCH
from mgmtnode.contracts.network import (
    L3_NETWORK,
    CheckIp,
    CreateL3Network,
    DeleteL3Network,
    DisableL3Network,
    EnableL3Network,
    GetIpUsage,
    IpAvailability,
    IpStatus,
    IpStrategy,
    IpUsage,
    L3Network,
    L3NetworkChanged,
    L3NetworkCreated,
    NetworkState,
    UpdateL3Network,
)
from mgmtnode.contracts.quota import ReserveQuota
from mgmtnode.db.session import Tx
from mgmtnode.jobs import ledger
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import handler, job, validate
from services.network.addresses import number_of
from services.network.allocation import KIND
from services.network.config import ALLOCATOR_STRATEGY
from services.network.extensions import QUOTA_L3
from services.network.flows import DELETE_L3_NETWORK
from services.network.handlers.parts import Parts

QUARANTINED = "QUARANTINED"


class L3Handlers(Parts):
    @validate
    def check_create_l3(self, tx: Tx, msg: CreateL3Network, caller: Caller) -> None:
        if msg.l2_network_uuid and self.l2_networks.get(tx, msg.l2_network_uuid).zone_uuid != msg.zone_uuid:
            raise ZONE_MISMATCH.error("the L2 network is in another zone", resource=msg.l2_network_uuid)

    @job()
    def create_l3(self, tx: Tx, msg: CreateL3Network) -> L3Network:
        work = tx.job
        amounts = {QUOTA_L3.name: 1}
        tx.call(
            ReserveQuota(account_uuid=work.account_uuid, resource_uuid=work.resource_uuid, amounts=amounts)
        )
        strategy = msg.allocator_strategy or IpStrategy(self.node.config.get(ALLOCATOR_STRATEGY))
        network = self.l3_networks.insert(tx, work, msg, strategy)
        tx.record(L3NetworkCreated(resource_uuid=network.uuid, l3_network=network))
        return network

    @job()
    def update_l3(self, tx: Tx, msg: UpdateL3Network) -> L3Network:
        return self._changed(tx, self.l3_networks.change(tx, msg.uuid, **changes(msg, "uuid")))

    @job()
    def enable_l3(self, tx: Tx, msg: EnableL3Network) -> L3Network:
        return self._changed(tx, self.l3_networks.change(tx, msg.uuid, state=NetworkState.ENABLED))

    @job()
    def disable_l3(self, tx: Tx, msg: DisableL3Network) -> L3Network:
        return self._changed(tx, self.l3_networks.change(tx, msg.uuid, state=NetworkState.DISABLED))

    @validate
    def check_delete_l3(self, tx: Tx, msg: DeleteL3Network, caller: Caller) -> None:
        if not msg.force:
            self.refuse_if_used(tx, msg.uuid)

    @job(DELETE_L3_NETWORK)
    def delete_l3(self, msg: DeleteL3Network, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind="l3_network", force=msg.force)

    @handler()
    async def ip_usage(self, msg: GetIpUsage, caller: Caller) -> IpUsage:
        return await self.node.db.read(lambda tx: self._usage(tx, msg.uuid, caller))

    @handler()
    async def check_ip(self, msg: CheckIp, caller: Caller) -> IpAvailability:
        status = await self.node.db.read(lambda tx: self._status(tx, msg, caller))
        return IpAvailability(ip=msg.ip, available=status is IpStatus.FREE, status=status)

    def _usage(self, tx: Tx, uuid: str, caller: Caller) -> IpUsage:
        self.node.query.get(tx, L3_NETWORK, uuid, caller)
        total, states = self.ranges.total(tx, uuid), ledger.units_by_state(tx, uuid, KIND)
        quarantined = states.pop(QUARANTINED, 0)
        used = sum(states.values())
        return IpUsage(
            total=total, used=used, quarantined=quarantined, free=max(0, total - used - quarantined)
        )

    def _status(self, tx: Tx, msg: CheckIp, caller: Caller) -> IpStatus:
        self.node.query.get(tx, L3_NETWORK, msg.uuid, caller)
        if number_of(msg.ip) not in self.nics.open(tx, msg.uuid).addresses:
            return IpStatus.FOREIGN
        state = ledger.units(tx, msg.uuid, unit=msg.ip).get(msg.ip)
        if state is None:
            return IpStatus.FREE
        return IpStatus.QUARANTINED if state == QUARANTINED else IpStatus.USED

    def _changed(self, tx: Tx, network: L3Network) -> L3Network:
        tx.record(L3NetworkChanged(resource_uuid=network.uuid, l3_network=network))
        return network
