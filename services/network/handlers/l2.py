"""L2 networks: create, change, delete; which clusters have them."""

from __future__ import annotations

from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.contracts.cluster import CLUSTER
from mgmtnode.contracts.l2_network import (
    BAD_VLAN,
    L2_NETWORK,
    ZONE_MISMATCH,
    AttachL2ToCluster,
    CreateL2Network,
    DeleteL2Network,
    DetachL2FromCluster,
    L2Network,
    L2NetworkChanged,
    L2NetworkCreated,
    L2Type,
    UpdateL2Network,
)
from mgmtnode.contracts.network import NETWORK_IN_USE
from mgmtnode.contracts.nic import NIC
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import job, validate
from services.network.flows import DELETE_L2_NETWORK
from services.network.handlers.parts import Parts


class L2Handlers(Parts):
    @validate
    def check_create_l2(self, tx: Tx, msg: CreateL2Network, caller: Caller) -> None:
        if (msg.type is L2Type.VLAN) is (msg.vlan is None):
            raise BAD_VLAN.error(
                "a network of type Vlan needs a vlan"
                if msg.vlan is None
                else f"a {msg.type} network has no vlan",
                field="vlan",
            )

    @job()
    def create_l2(self, tx: Tx, msg: CreateL2Network) -> L2Network:
        network = self.l2_networks.insert(tx, tx.job, msg)
        tx.record(L2NetworkCreated(resource_uuid=network.uuid, l2_network=network))
        return network

    @job()
    def update_l2(self, tx: Tx, msg: UpdateL2Network) -> L2Network:
        values = changes(msg, "uuid")
        if "all_clusters" in values:
            self.l2_networks.set_reach(tx, msg.uuid, all_clusters=values["all_clusters"])
        return self._l2_changed(tx, msg.uuid, **values)

    @validate
    def check_attach(self, tx: Tx, msg: AttachL2ToCluster, caller: Caller) -> None:
        zone = self.node.query.get(tx, CLUSTER, msg.cluster_uuid).zone_uuid
        if self.l2_networks.get(tx, msg.uuid).zone_uuid != zone:
            raise ZONE_MISMATCH.error("the cluster is in another zone", resource=msg.cluster_uuid)

    @job()
    def attach_cluster(self, tx: Tx, msg: AttachL2ToCluster) -> L2Network:
        network = self.l2_networks.get(tx, msg.uuid)
        if msg.cluster_uuid in network.cluster_uuids and not network.all_clusters:
            return network
        self.l2_networks.detach(tx, msg.uuid, msg.cluster_uuid)
        self.l2_networks.attach(tx, msg.uuid, msg.cluster_uuid)
        return self._l2_changed(tx, msg.uuid)

    @job()
    def detach_cluster(self, tx: Tx, msg: DetachL2FromCluster) -> L2Network:
        network = self.l2_networks.get(tx, msg.uuid)
        if msg.cluster_uuid not in network.cluster_uuids:
            return network
        self._refuse_if_used_in(tx, network, msg.cluster_uuid)
        self.l2_networks.detach(tx, msg.uuid, msg.cluster_uuid)
        return self._l2_changed(tx, msg.uuid)

    @job(DELETE_L2_NETWORK)
    def delete_l2(self, msg: DeleteL2Network, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind="l2_network", force=msg.force)

    def _refuse_if_used_in(self, tx: Tx, network: L2Network, cluster_uuid: str) -> None:
        if network.all_clusters or "vm" not in self.node.query.graph:
            return
        conditions = (f"l3_network.l2_network_uuid={network.uuid}", f"vm.cluster_uuid={cluster_uuid}")
        if self.node.query.find(tx, NIC, *conditions, limit=1):
            raise NETWORK_IN_USE.error("VMs of the cluster have NICs on the network", resource=network.uuid)

    def _l2_changed(self, tx: Tx, uuid: str, **values: object) -> L2Network:
        resource.change(tx, L2_NETWORK, uuid, **values)
        network = self.l2_networks.get(tx, uuid)
        tx.record(L2NetworkChanged(resource_uuid=uuid, l2_network=network))
        return network
