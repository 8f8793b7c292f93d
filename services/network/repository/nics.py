"""The only SQL on NICs, and on which addresses of a network they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    bindparam,
    case,
    delete,
    exists,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from mgmtnode.contracts.network import IpStrategy, NetworkState
from mgmtnode.contracts.nic import NIC, Nic
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND
from mgmtnode.query.engine import Query
from services.network.addresses import Addresses, Span, number_of
from services.network.models import ip_range, l3_network, nic


@dataclass(frozen=True, slots=True)
class OpenNetwork:
    """All that handing out an address of a network takes."""

    uuid: str
    state: NetworkState
    strategy: IpStrategy
    ranges: dict[Span, str]
    addresses: Addresses

    def range_of(self, number: int) -> str | None:
        """The uuid of the range with the address."""
        return next((uuid for span, uuid in self.ranges.items() if number in span), None)


@dataclass(frozen=True, slots=True)
class Gone:
    """What a NIC that was removed had."""

    uuid: str
    vm_uuid: str
    l3_network_uuid: str
    ip: str | None


# Written once: building a statement costs more than running it, and every new VM runs these.
_OPEN = (
    select(
        l3_network.c.state,
        l3_network.c.allocator_strategy,
        ip_range.c.uuid,
        ip_range.c.first_number,
        ip_range.c.last_number,
    )
    .outerjoin(ip_range, ip_range.c.l3_network_uuid == l3_network.c.uuid)
    .where(l3_network.c.uuid == bindparam("network"))
)
_PLUG = {
    "sqlite": sqlite.insert(nic).on_conflict_do_nothing(index_elements=["mac"]),
    "postgresql": postgresql.insert(nic).on_conflict_do_nothing(index_elements=["mac"]),
}


def _next_gap() -> Select[tuple[int]]:
    after: ColumnElement[int] = bindparam("after", type_=nic.c.ip_number.type)
    upper = nic.alias()
    here = nic.c.l3_network_uuid == bindparam("network")
    free_above = ~exists().where(
        upper.c.l3_network_uuid == bindparam("network"), upper.c.ip_number == nic.c.ip_number + 1
    )
    island_end = (
        select(nic.c.ip_number + 1)
        .where(here, nic.c.ip_number > after, free_above)
        .order_by(nic.c.ip_number)
        .limit(1)
    )
    used = exists().where(here, nic.c.ip_number == after + 1)
    return select(case((used, island_end.scalar_subquery()), else_=after + 1))


_NEXT_GAP = _next_gap()
_GONE = (nic.c.uuid, nic.c.vm_uuid, nic.c.l3_network_uuid, nic.c.ip)
_REMOVE_ALL = delete(nic).where(nic.c.vm_uuid == bindparam("vm")).returning(*_GONE)
_REMOVE_ONE = _REMOVE_ALL.where(nic.c.uuid == bindparam("this"))


class NicRepository:
    def __init__(self, query: Query) -> None:
        self._query = query

    def of_vm(self, tx: Tx, vm_uuid: str) -> list[Nic]:
        return self._query.find(tx, NIC, f"vm_uuid={vm_uuid}", sort="device_index")

    def open(self, tx: Tx, l3_network_uuid: str) -> OpenNetwork:
        """Raises core.not-found."""
        rows = tx.execute(_OPEN, {"network": l3_network_uuid}).all()
        if not rows:
            raise NOT_FOUND.error(f"there is no l3_network {l3_network_uuid}", resource=l3_network_uuid)
        ranges = {Span(r[3], r[4]): str(r[2]) for r in rows if r[2] is not None}
        state, strategy = NetworkState(rows[0][0]), IpStrategy(rows[0][1])
        return OpenNetwork(l3_network_uuid, state, strategy, ranges, Addresses(list(ranges)))

    def next_gap(self, tx: Tx, l3_network_uuid: str, after: int) -> int:
        """The lowest number above ``after`` that no NIC of the network has; it may be in no range."""
        return int(tx.execute(_NEXT_GAP, {"network": l3_network_uuid, "after": after}).scalar_one())

    def insert(self, tx: Tx, made: Nic, account_uuid: str) -> None:
        """The core row; ``plug`` makes the other one."""
        resource.create(tx, NIC, made.uuid, made.name, account=account_uuid, description=made.description)

    def plug(self, tx: Tx, made: Nic) -> bool:
        """The NIC's own row; False if another NIC has its MAC address."""
        values = {
            "uuid": made.uuid,
            "vm_uuid": made.vm_uuid,
            "l3_network_uuid": made.l3_network_uuid,
            "ip_range_uuid": made.ip_range_uuid,
            "mac": made.mac,
            "ip": made.ip,
            "ip_number": number_of(made.ip) if made.ip else None,
            "device_index": made.device_index,
        }
        return bool(tx.execute(_PLUG[tx.dialect], values).rowcount)

    def remove(self, tx: Tx, vm_uuid: str, nic_uuid: str | None) -> list[Gone]:
        """Deletes one NIC of a VM, or all."""
        if nic_uuid is None:
            return self._remove(tx, _REMOVE_ALL, {"vm": vm_uuid})
        return self._remove(tx, _REMOVE_ONE, {"vm": vm_uuid, "this": nic_uuid})

    def remove_users(self, tx: Tx, uuid: str) -> list[Gone]:
        """Deletes all NICs on a network or with an address of a range."""
        return self._remove(tx, delete(nic).where(_uses(uuid)).returning(*_GONE))

    def users(self, tx: Tx, uuid: str) -> list[tuple[str, str]]:
        """The NICs, as (NIC, VM), on a network or with an address of a range."""
        rows = select(nic.c.uuid, nic.c.vm_uuid).where(_uses(uuid)).order_by(nic.c.uuid)
        return [(str(r[0]), str(r[1])) for r in tx.execute(rows)]

    def _remove(self, tx: Tx, delete_: Executable, asked: dict[str, Any] | None = None) -> list[Gone]:
        rows = tx.execute(delete_, asked).all()
        for row in rows:
            resource.remove(tx, row[0])
        return [Gone(*row) for row in rows]


def used(tx: Tx, uuid: str) -> bool:
    """Whether any NIC is on the network, or has an address of the range."""
    return tx.execute(select(nic.c.uuid).where(_uses(uuid)).limit(1)).first() is not None


def _uses(uuid: str) -> ColumnElement[bool]:
    return or_(nic.c.l3_network_uuid == uuid, nic.c.ip_range_uuid == uuid)
