"""A small installation of its own: zone, cluster, host, vm, nic, network; on tables that only these tests have."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table

from mgmtnode.db import base
from mgmtnode.db.base import BigInt, JsonOf, UtcTime, UuidText, ref
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.jobs.job import JobState
from mgmtnode.schema import Data, Embed, Inventory, Ref, Resource, Uuid

metadata: MetaData = base.metadata


class VmState(StrEnum):
    RUNNING = "Running"
    STOPPED = "Stopped"
    UNKNOWN = "Unknown"


class Zone(Inventory):
    enabled: bool
    cluster_uuids: Annotated[list[Uuid], Embed("clusters")]


class Cluster(Inventory):
    zone_uuid: Annotated[Uuid, Ref("t_zone")]


class Host(Inventory):
    cluster_uuid: Annotated[Uuid, Ref("t_cluster")]
    cpus: int
    load: float | None
    seen_at: datetime | None


class Nic(Inventory):
    vm_uuid: Annotated[Uuid, Ref("t_vm")]
    ip: str
    network_uuid: Annotated[Uuid, Ref("t_network")]
    primary: bool
    options: dict[str, int]


class Vm(Inventory):
    account_uuid: str
    host_uuid: Annotated[Uuid, Ref("t_host")] | None
    state: VmState
    cpus: int
    memory: int | None
    ha: bool
    labels: list[str] | None
    nics: list[Nic]


class Network(Inventory):
    cluster_uuids: Annotated[list[Annotated[Uuid, Ref("t_cluster")]], Embed("clusters")]


class Task(Data):
    uuid: str
    account_uuid: str
    state: JobState
    journal: dict[str, int] | None


ZONE = Resource("t_zone", "zones", Zone, unique_name=True)
CLUSTER = Resource("t_cluster", "clusters", Cluster)
HOST = Resource("t_host", "hosts", Host)
VM = Resource("t_vm", "vms", Vm, owned=True)
NIC = Resource("t_nic", "nics", Nic, owned=True)
NETWORK = Resource("t_network", "networks", Network, owned=True)
TASK = Resource("t_task", "tasks", Task, owned=True, backed=False)
RESOURCES = (ZONE, CLUSTER, HOST, VM, NIC, NETWORK, TASK)

zone = base.resource_table("t_zone", Column("enabled", Boolean, nullable=False))
cluster = base.resource_table("t_cluster", ref("zone_uuid", "t_zone", back="clusters"))
host = base.resource_table(
    "t_host",
    ref("cluster_uuid", "t_cluster", back="hosts"),
    Column("cpus", Integer, nullable=False),
    Column("load", Float),
    Column("seen_at", UtcTime),
)
vm = base.resource_table(
    "t_vm",
    ref("host_uuid", "t_host", back="vms", nullable=True),
    Column("state", String(16), nullable=False),
    Column("cpus", Integer, nullable=False),
    Column("memory", BigInt),
    Column("ha", Boolean, nullable=False),
    Column("labels", JsonOf(list[str])),
)
network = base.resource_table("t_network")
nic = base.resource_table(
    "t_nic",
    ref("vm_uuid", "t_vm", back="nics"),
    Column("ip", String(64), nullable=False, index=True),
    ref("network_uuid", "t_network", back="nics"),
    Column("primary", Boolean, nullable=False),
    Column("options", JsonOf(dict[str, int]), nullable=False),
)
attachment = Table(
    "t_attachment",
    metadata,
    ref("network_uuid", "t_network", back="clusters"),
    ref("cluster_uuid", "t_cluster", back="networks"),
)
task = Table(
    "t_task",
    metadata,
    Column("uuid", UuidText, primary_key=True),
    Column("account_uuid", UuidText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("journal", JsonOf(), nullable=True),
)
TABLES = (zone, cluster, host, vm, network, nic, attachment, task)


def all_tables() -> list[Any]:
    return [*CORE_TABLES, *TABLES]
