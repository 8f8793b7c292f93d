"""The only SQL of placement: hosts beside what their pools have left."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BigInteger, Select, and_, bindparam, case, func, insert, select, update

from mgmtnode.contracts.allocator import HostCapacity, ReserveHost
from mgmtnode.contracts.host import Host
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import allocation, pool
from services.allocator.models import host_capacity

CPU, MEMORY = "cpu", "memory"
ENABLED, CONNECTED = "Enabled", "Connected"


class Limits(NamedTuple):
    """What a host offers to VMs, and the bytes it keeps back."""

    cpu: int
    memory: int
    reserved_memory: int


class HostFacts(NamedTuple):
    """What a host has, in threads and bytes, and what was made of that."""

    host_uuid: str
    cluster_uuid: str
    zone_uuid: str
    cpu: int
    memory: int
    limits: Limits

    @property
    def place(self) -> dict[str, str]:
        return {"host": self.host_uuid, "cluster": self.cluster_uuid, "zone": self.zone_uuid}


class HostRow(msgspec.Struct, frozen=True):
    """A host as the pipeline sees it: where it is, how it is, what new reservations may still take. ``vms``: how many
    hold memory of it; one that was enlarged counts for each time. ``open``: its cluster and its zone are enabled."""

    host_uuid: str
    cluster_uuid: str
    zone_uuid: str
    hypervisor: str
    state: str
    status: str
    cpu_free: int
    memory_free: int
    threads: int
    vms: int
    open: bool


_cpu, _memory = pool.alias("cpu_pool"), pool.alias("memory_pool")
_cpu_free, _memory_free = _cpu.c.target - _cpu.c.used, _memory.c.target - _memory.c.used
_open = and_(host_capacity.c.cluster_open, host_capacity.c.zone_open)
_hosts = (
    select(
        *(host_capacity.c[f] for f in HostRow.__struct_fields__[:6]),
        _cpu_free.label("cpu_free"),
        _memory_free.label("memory_free"),
        host_capacity.c.cpu.label("threads"),
        _memory.c.allocations.label("vms"),
        _open.label("open"),
    )
    .join(_cpu, and_(_cpu.c.resource_uuid == host_capacity.c.host_uuid, _cpu.c.kind == CPU))
    .join(_memory, and_(_memory.c.resource_uuid == host_capacity.c.host_uuid, _memory.c.kind == MEMORY))
)
UPDATE = update(host_capacity).where(host_capacity.c.host_uuid == bindparam("which"))
KNOWN = select(host_capacity.c.host_uuid).where(host_capacity.c.host_uuid == bindparam("host"))
DESIGNATIONS = ("host_uuid", "cluster_uuid", "zone_uuid", "hypervisor")


class Shape(NamedTuple):
    """Which conditions and which order a search for hosts has."""

    given: tuple[str, ...]
    avoid: bool
    last_first: bool
    fullest_first: bool


@lru_cache
def _fitting(shape: Shape) -> Select[Any]:
    """Written once for each shape: building the statement costs more than running it."""
    statement = _hosts.where(
        host_capacity.c.state == ENABLED,
        host_capacity.c.status == CONNECTED,
        _open,
        host_capacity.c.cpu >= bindparam("cpu", type_=BigInteger),
        _cpu_free >= bindparam("cpu", type_=BigInteger),
        _memory_free >= bindparam("memory", type_=BigInteger),
    )
    for column in shape.given:
        statement = statement.where(host_capacity.c[column] == bindparam(column))
    if shape.avoid:
        statement = statement.where(host_capacity.c.host_uuid.not_in(bindparam("avoid", expanding=True)))
    if shape.last_first:
        statement = statement.order_by(case((host_capacity.c.host_uuid == bindparam("last"), 0), else_=1))
    left = (_memory_free, _cpu_free) if shape.fullest_first else (_memory_free.desc(), _cpu_free.desc())
    return statement.order_by(*left).limit(bindparam("most"))


def _facts(host: Host) -> dict[str, Any]:
    return {
        "host_uuid": host.uuid,
        "cluster_uuid": host.cluster_uuid,
        "zone_uuid": host.zone_uuid,
        "hypervisor": host.hypervisor,
        "state": host.state,
        "status": host.status,
        "cpu": host.cpu,
        "memory": host.memory,
    }


class CapacityRepository:
    def knows(self, tx: Tx, host_uuid: str) -> bool:
        return tx.execute(KNOWN, {"host": host_uuid}).first() is not None

    def add(self, tx: Tx, host: Host, *, cluster_open: bool, zone_open: bool) -> None:
        """Keeps account of a host from now on."""
        places = {"cluster_open": cluster_open, "zone_open": zone_open}
        tx.execute(insert(host_capacity), _facts(host) | places | {"reserved_memory": 0})

    def save(self, tx: Tx, host: Host, reserved_memory: int) -> None:
        values = _facts(host) | {"reserved_memory": reserved_memory}
        tx.execute(UPDATE, values | {"which": host.uuid})

    def set_open(self, tx: Tx, place_uuid: str, *, enabled: bool) -> None:
        """A cluster or a zone was enabled, or disabled."""
        for own, flag in (("cluster_uuid", "cluster_open"), ("zone_uuid", "zone_open")):
            where = host_capacity.c[own] == place_uuid
            tx.execute(update(host_capacity).where(where).values({flag: enabled}))

    def set_reserved(self, tx: Tx, host_uuid: str, reserved_memory: int) -> None:
        tx.execute(UPDATE, {"which": host_uuid, "reserved_memory": reserved_memory})

    def facts(self, tx: Tx) -> list[HostFacts]:
        """Of all hosts, in one order, so that two never wait for each other."""
        own = [host_capacity.c[name] for name in HostFacts._fields[:5]]
        statement = _hosts.with_only_columns(
            *own, _cpu.c.target, _memory.c.target, host_capacity.c.reserved_memory, maintain_column_froms=True
        )
        rows = tx.execute(statement.order_by(host_capacity.c.host_uuid))
        return [
            HostFacts(
                str(r[0]), str(r[1]), str(r[2]), int(r[3]), int(r[4]), Limits(int(r[5]), int(r[6]), int(r[7]))
            )
            for r in rows
        ]

    def fitting(self, tx: Tx, request: ReserveHost, limit: int, *, fullest_first: bool) -> list[HostRow]:
        """Hosts that pass what SQL can check: where the VM ran last, then the emptiest, or the fullest."""
        wanted = {column: getattr(request, column) for column in DESIGNATIONS}
        given = tuple(column for column in DESIGNATIONS if wanted[column])
        values = {"cpu": request.cpu, "memory": request.memory, "most": limit, "avoid": request.avoid}
        shape = Shape(given, bool(request.avoid), bool(request.last_host_uuid), fullest_first)
        found = tx.execute(_fitting(shape), values | wanted | {"last": request.last_host_uuid})
        return [HostRow(*row) for row in found]

    def all(self, tx: Tx) -> list[HostRow]:
        """Every host, for explaining a refusal."""
        return [HostRow(*row) for row in tx.execute(_hosts)]

    def holders(self, tx: Tx, host_uuid: str) -> list[str]:
        """Who holds memory of the host, but for what is kept back until a debt is settled."""
        mine = and_(allocation.c.pool_uuid == host_uuid, allocation.c.kind == MEMORY)
        held = select(allocation.c.resource_uuid).distinct().where(mine, allocation.c.state != "QUARANTINED")
        return sorted(str(r[0]) for r in tx.execute(held))

    def capacity(self, tx: Tx, **place: str | None) -> HostCapacity:
        """Sums over the hosts of a zone, a cluster, one host, or all."""
        sums: Sequence[Any] = (
            func.coalesce(func.sum(_cpu.c.target), 0),
            func.coalesce(func.sum(_cpu.c.used), 0),
            func.coalesce(func.sum(_usable(_cpu_free)), 0),
            func.coalesce(func.sum(_memory.c.target), 0),
            func.coalesce(func.sum(host_capacity.c.reserved_memory), 0),
            func.coalesce(func.sum(_memory.c.used), 0),
            func.coalesce(func.sum(_usable(_memory_free)), 0),
            func.count(),
        )
        statement = _hosts.with_only_columns(*sums, maintain_column_froms=True)
        for column, value in place.items():
            if value:
                statement = statement.where(host_capacity.c[column] == value)
        row = tx.execute(statement).one()
        return HostCapacity(**dict(zip(HostCapacity.__struct_fields__, map(int, row), strict=True)))


def _usable(left: Any) -> Any:
    """What is left of a host, as far as something can be placed there now."""
    ready = and_(host_capacity.c.state == ENABLED, host_capacity.c.status == CONNECTED, _open, left > 0)
    return case((ready, left), else_=0)
