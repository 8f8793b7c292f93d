"""A small installation of its own: zone, cluster, host, vm, nic, network; on tables that only these tests
have."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import Boolean, Column, Float, ForeignKey, Integer, MetaData, String, Table

from mgmtnode.db.base import BigInt, JsonOf, UtcTime, UuidText, ref
from mgmtnode.db.base import metadata as core_metadata
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.jobs.job import JobState
from mgmtnode.schema import Data, Embed, Inventory, Ref, Resource, Uuid

metadata = MetaData(naming_convention=core_metadata.naming_convention)
for core_table in CORE_TABLES:
    core_table.to_metadata(metadata)


class VmState(StrEnum):
    RUNNING = "Running"
    STOPPED = "Stopped"
    UNKNOWN = "Unknown"


class Zone(Inventory):
    enabled: bool
    cluster_uuids: Annotated[list[Uuid], Embed("clusters")]


class Cluster(Inventory):
    zone_uuid: Annotated[Uuid, Ref("zone")]


class Host(Inventory):
    cluster_uuid: Annotated[Uuid, Ref("cluster")]
    cpus: int
    load: float | None
    seen_at: datetime | None


class Nic(Inventory):
    vm_uuid: Annotated[Uuid, Ref("vm")]
    ip: str
    network_uuid: Annotated[Uuid, Ref("network")]
    primary: bool
    options: dict[str, int]


class Vm(Inventory):
    account_uuid: str
    host_uuid: Annotated[Uuid, Ref("host")] | None
    state: VmState
    cpus: int
    memory: int | None
    ha: bool
    labels: list[str] | None
    nics: list[Nic]


class Network(Inventory):
    cluster_uuids: Annotated[list[Annotated[Uuid, Ref("cluster")]], Embed("clusters")]


class Task(Data):
    uuid: str
    account_uuid: str
    state: JobState
    journal: dict[str, int] | None


ZONE = Resource("zone", "zones", Zone, unique_name=True)
CLUSTER = Resource("cluster", "clusters", Cluster)
HOST = Resource("host", "hosts", Host)
VM = Resource("vm", "vms", Vm, owned=True)
NIC = Resource("nic", "nics", Nic, owned=True)
NETWORK = Resource("network", "networks", Network, owned=True)
TASK = Resource("task", "tasks", Task, owned=True, backed=False)
RESOURCES = (ZONE, CLUSTER, HOST, VM, NIC, NETWORK, TASK)


def resource_table(type_: str, *columns: Any) -> Table:
    """As the core's, but not on the core's metadata: no other test sees these tables."""
    key = Column("uuid", UuidText, ForeignKey("resource.uuid", ondelete="RESTRICT"), primary_key=True)
    return Table(type_, metadata, key, *columns, info={"resource_type": type_})


zone = resource_table("zone", Column("enabled", Boolean, nullable=False))
cluster = resource_table("cluster", ref("zone_uuid", "zone", back="clusters"))
host = resource_table(
    "host",
    ref("cluster_uuid", "cluster", back="hosts"),
    Column("cpus", Integer, nullable=False),
    Column("load", Float),
    Column("seen_at", UtcTime),
)
vm = resource_table(
    "vm",
    ref("host_uuid", "host", back="vms", nullable=True),
    Column("state", String(16), nullable=False),
    Column("cpus", Integer, nullable=False),
    Column("memory", BigInt),
    Column("ha", Boolean, nullable=False),
    Column("labels", JsonOf(list[str])),
)
network = resource_table("network")
nic = resource_table(
    "nic",
    ref("vm_uuid", "vm", back="nics"),
    Column("ip", String(64), nullable=False, index=True),
    ref("network_uuid", "network", back="nics"),
    Column("primary", Boolean, nullable=False),
    Column("options", JsonOf(dict[str, int]), nullable=False),
)
attachment = Table(
    "attachment",
    metadata,
    ref("network_uuid", "network", back="clusters"),
    ref("cluster_uuid", "cluster", back="networks"),
)
task = Table(
    "task",
    metadata,
    Column("uuid", UuidText, primary_key=True),
    Column("account_uuid", UuidText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("journal", JsonOf(), nullable=True),
)
TABLES = (zone, cluster, host, vm, network, nic, attachment, task)
