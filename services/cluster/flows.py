"""Deleting a cluster: first its hosts, then its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.cascade.deletion import DeletionContext, deletion_flow
from mgmtnode.contracts.cluster import ClusterDeleted
from mgmtnode.db.session import Tx

if TYPE_CHECKING:
    from services.cluster.service import ClusterService


def remove(service: ClusterService, tx: Tx, context: DeletionContext) -> None:
    tx.record(ClusterDeleted(resource_uuid=context.uuid))
    service.clusters.delete(tx, context.uuid)


DELETE_CLUSTER = deletion_flow("cluster.delete", remove)
