"""Clusters: create, change, enable, disable, delete."""

from __future__ import annotations

from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.contracts.allocator import PlaceChanged
from mgmtnode.contracts.cluster import (
    CLUSTER,
    CLUSTER_HYPERVISOR_UNKNOWN,
    Cluster,
    ClusterChanged,
    ClusterCreated,
    ClusterState,
    CreateCluster,
    DeleteCluster,
    DisableCluster,
    EnableCluster,
    UpdateCluster,
)
from mgmtnode.contracts.hypervisor import HypervisorDriver
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import NodeContext, Service, job, validate
from services.cluster.flows import DELETE_CLUSTER
from services.cluster.repository import ClusterRepository


class ClusterService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.clusters = ClusterRepository(node.query)

    @validate
    def check_create(self, tx: Tx, msg: CreateCluster, caller: Caller) -> None:
        known = self.node.extensions.keys(HypervisorDriver)
        if msg.hypervisor not in known:
            raise CLUSTER_HYPERVISOR_UNKNOWN.error(
                f"nothing here drives {msg.hypervisor!r}; known are: {', '.join(known) or 'none'}",
                known=known,
            )

    @job()
    def create(self, tx: Tx, msg: CreateCluster) -> Cluster:
        cluster = self.clusters.insert(tx, tx.job, msg)
        tx.record(ClusterCreated(resource_uuid=cluster.uuid, cluster=cluster))
        return cluster

    @job()
    def update(self, tx: Tx, msg: UpdateCluster) -> Cluster:
        resource.change(tx, CLUSTER, msg.uuid, **changes(msg, "uuid"))
        return self._changed(tx, self.clusters.get(tx, msg.uuid))

    @job()
    def enable(self, tx: Tx, msg: EnableCluster) -> Cluster:
        return self._set_state(tx, msg.uuid, ClusterState.ENABLED)

    @job()
    def disable(self, tx: Tx, msg: DisableCluster) -> Cluster:
        return self._set_state(tx, msg.uuid, ClusterState.DISABLED)

    @job(DELETE_CLUSTER)
    def delete(self, msg: DeleteCluster, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind="cluster", force=msg.force)

    def _set_state(self, tx: Tx, uuid: str, state: ClusterState) -> Cluster:
        cluster = self.clusters.set_state(tx, uuid, state)
        for listener in self.node.extensions.all(PlaceChanged):
            listener.place_changed(tx, uuid, state is ClusterState.ENABLED)
        return self._changed(tx, cluster)

    def _changed(self, tx: Tx, cluster: Cluster) -> Cluster:
        tx.record(ClusterChanged(resource_uuid=cluster.uuid, cluster=cluster))
        return cluster
