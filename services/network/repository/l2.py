"""The only SQL on L2 networks."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, select, update

from mgmtnode.contracts.l2_network import L2_NETWORK, CreateL2Network, L2Network
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import WorkToken
from mgmtnode.query.engine import Query
from services.network.models import l2_network, l2_network_cluster, l3_network

_REACH = (  # written once: building a statement costs more than running it, and every new VM runs this one
    select(
        l3_network.c.uuid,
        l3_network.c.zone_uuid,
        l2_network.c.all_clusters,
        l2_network_cluster.c.cluster_uuid,
    )
    .outerjoin(l2_network, l2_network.c.uuid == l3_network.c.l2_network_uuid)
    .outerjoin(l2_network_cluster, l2_network_cluster.c.l2_network_uuid == l2_network.c.uuid)
    .where(l3_network.c.uuid.in_(bindparam("networks", expanding=True)))
)


class L2Repository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> L2Network:
        found: L2Network = self._query.get(tx, L2_NETWORK, uuid)
        return found

    def insert(self, tx: Tx, work: WorkToken, msg: CreateL2Network) -> L2Network:
        uuid, account = work.resource_uuid, work.account_uuid
        resource.create(tx, L2_NETWORK, uuid, msg.name, account=account, description=msg.description)
        values = {
            "uuid": uuid,
            "zone_uuid": msg.zone_uuid,
            "type": msg.type,
            "vlan": msg.vlan,
            "physical_interface": msg.physical_interface,
            "all_clusters": True,
        }
        tx.execute(insert(l2_network).values(values))
        return self.get(tx, uuid)

    def set_reach(self, tx: Tx, uuid: str, *, all_clusters: bool) -> None:
        tx.execute(update(l2_network).where(l2_network.c.uuid == uuid).values(all_clusters=all_clusters))

    def attach(self, tx: Tx, uuid: str, cluster_uuid: str) -> None:
        tx.execute(insert(l2_network_cluster).values(l2_network_uuid=uuid, cluster_uuid=cluster_uuid))
        self.set_reach(tx, uuid, all_clusters=False)

    def detach(self, tx: Tx, uuid: str, cluster_uuid: str) -> None:
        link = l2_network_cluster.c
        tx.execute(
            delete(l2_network_cluster).where(link.l2_network_uuid == uuid, link.cluster_uuid == cluster_uuid)
        )

    def exists(self, tx: Tx, uuid: str) -> bool:
        return tx.execute(select(l2_network.c.uuid).where(l2_network.c.uuid == uuid)).first() is not None

    def lock(self, tx: Tx, uuid: str) -> None:
        """Until the commit, nobody else changes which addresses are on the wire."""
        tx.execute(select(l2_network.c.uuid).where(l2_network.c.uuid == uuid).with_for_update())

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(l2_network_cluster).where(l2_network_cluster.c.l2_network_uuid == uuid))
        tx.execute(delete(l2_network).where(l2_network.c.uuid == uuid))
        resource.remove(tx, uuid)

    def reach_of(self, tx: Tx, l3_network_uuids: Sequence[str]) -> list[tuple[str, set[str] | None]]:
        """For each L3 network, the zone it is in and the clusters that have it; None: all of the zone."""
        rows = tx.execute(_REACH, {"networks": list(l3_network_uuids)}).all()
        clusters: dict[tuple[str, str], set[str] | None] = {}
        for uuid, zone, everywhere, cluster in rows:
            if everywhere is False:
                found = clusters.setdefault((uuid, zone), set())
                if found is not None and cluster is not None:
                    found.add(cluster)
            else:
                clusters[uuid, zone] = None
        return [(zone, found) for (_, zone), found in clusters.items()]
