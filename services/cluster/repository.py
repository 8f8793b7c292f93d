"""The only SQL on clusters."""

from __future__ import annotations

from sqlalchemy import delete, insert, update

from mgmtnode.contracts.cluster import CLUSTER, Cluster, ClusterState, CreateCluster
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import WorkToken
from mgmtnode.query.engine import Query
from services.cluster.models import cluster


class ClusterRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> Cluster:
        found: Cluster = self._query.get(tx, CLUSTER, uuid)
        return found

    def insert(self, tx: Tx, work: WorkToken, msg: CreateCluster) -> Cluster:
        uuid = work.resource_uuid
        resource.create(tx, CLUSTER, uuid, msg.name, account=work.account_uuid, description=msg.description)
        values = {"uuid": uuid, "zone_uuid": msg.zone_uuid, "hypervisor": msg.hypervisor}
        tx.execute(insert(cluster).values(state=ClusterState.ENABLED, **values))
        return self.get(tx, uuid)

    def set_state(self, tx: Tx, uuid: str, state: ClusterState) -> Cluster:
        tx.execute(update(cluster).where(cluster.c.uuid == uuid).values(state=state))
        resource.change(tx, CLUSTER, uuid)
        return self.get(tx, uuid)

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(cluster).where(cluster.c.uuid == uuid))
        resource.remove(tx, uuid)
