"""The only SQL on IP ranges."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from sqlalchemy import delete, func, insert, or_, select

from mgmtnode.contracts.ip_range import IP_RANGE, IpRange
from mgmtnode.contracts.network import L3Network
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.query.engine import Query
from services.network.addresses import Span, Subnet, number_of, text_of
from services.network.models import ip_range, l3_network


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A range on the same wire, or of the same network."""

    uuid: str
    l3_network_uuid: str
    subnet: Subnet


class RangeRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def get(self, tx: Tx, uuid: str) -> IpRange:
        found: IpRange = self._query.get(tx, IP_RANGE, uuid)
        return found

    def insert(self, tx: Tx, uuid: str, name: str, description: str, account: str) -> None:
        """The core row; ``add`` makes the other one."""
        resource.create(tx, IP_RANGE, uuid, name, account=account, description=description)

    def add(self, tx: Tx, uuid: str, l3_network_uuid: str, subnet: Subnet) -> IpRange:
        values = {
            "uuid": uuid,
            "l3_network_uuid": l3_network_uuid,
            "start_ip": text_of(subnet.span.first),
            "end_ip": text_of(subnet.span.last),
            "gateway": text_of(subnet.gateway) if subnet.gateway is not None else None,
            "netmask": str(subnet.network.netmask),
            "cidr": str(subnet.network),
            "size": len(subnet.span),
            "first_number": subnet.span.first,
            "last_number": subnet.span.last,
        }
        tx.execute(insert(ip_range).values(values))
        return self.get(tx, uuid)

    def around(self, tx: Tx, network: L3Network) -> list[Neighbour]:
        """The ranges whose addresses could be met on the network's wire, its own among them."""
        same_network = ip_range.c.l3_network_uuid == network.uuid
        where = same_network
        if network.l2_network_uuid:
            where = or_(same_network, l3_network.c.l2_network_uuid == network.l2_network_uuid)
        rows = select(ip_range).join(l3_network, l3_network.c.uuid == ip_range.c.l3_network_uuid).where(where)
        return [_neighbour(row) for row in tx.execute(rows)]

    def of_network(self, tx: Tx, l3_network_uuid: str) -> list[str]:
        return [
            str(r[0])
            for r in tx.execute(select(ip_range.c.uuid).where(ip_range.c.l3_network_uuid == l3_network_uuid))
        ]

    def total(self, tx: Tx, l3_network_uuid: str) -> int:
        """Addresses in all ranges of a network."""
        size = select(func.sum(ip_range.c.size)).where(ip_range.c.l3_network_uuid == l3_network_uuid)
        return int(tx.execute(size).scalar() or 0)

    def exists(self, tx: Tx, uuid: str) -> bool:
        return tx.execute(select(ip_range.c.uuid).where(ip_range.c.uuid == uuid)).first() is not None

    def delete(self, tx: Tx, uuid: str) -> None:
        tx.execute(delete(ip_range).where(ip_range.c.uuid == uuid))
        resource.remove(tx, uuid)


def _neighbour(row: object) -> Neighbour:
    r = row._mapping  # type: ignore[attr-defined]  # a row of SQLAlchemy's
    gateway = number_of(r["gateway"]) if r["gateway"] else None
    subnet = Subnet(IPv4Network(r["cidr"]), Span(r["first_number"], r["last_number"]), gateway)
    return Neighbour(r["uuid"], r["l3_network_uuid"], subnet)
