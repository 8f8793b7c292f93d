"""What every schedule begins with, made once a process by the product itself: a zone of hosts and a network."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from mgmtnode.bus.message import ApiJob
from mgmtnode.config import core_properties as core
from mgmtnode.contracts.cluster import CreateCluster
from mgmtnode.contracts.config import UpdateGlobalConfig
from mgmtnode.contracts.host import AddHost
from mgmtnode.contracts.ip_range import CreateIpRange
from mgmtnode.contracts.network import CreateL3Network
from mgmtnode.contracts.zone import CreateZone
from mgmtnode.db.schema import upgrade
from mgmtnode.jobs.job import SYSTEM, JobState
from mgmtnode.loader import discover
from mgmtnode.service import ServiceManifest
from mgmtnode.testing.simulation.database import DatabaseServer
from mgmtnode.testing.simulation.world import World
from services.simulator.properties import AGENTS_URL
from tests.simulation.rack import Rack
from tests.simulation.schedule import OPTIONS

GIB = 1 << 30
HOST_CPU, HOST_MEMORY = 4, 3 * GIB
NETWORK = "10.0.0.0/29"  # 5 addresses: few enough to be fought for
SETTINGS: dict[str, Any] = {
    "simulator.answer_seconds": 4,
    "simulator.command_seconds": 60,
    "job.undo_seconds": 6,
    "host.ping_interval": 6,
    "host.vm_sync_interval": 1,
    "host.ping_failures": 2,
    "host.debt_interval": 5,
    "host.forget_interval": 10,
    "host.unknown_after": 20,
    "vm.deletion_policy": "Direct",
    "vm.expunge_period": 10,
    "vm.expunge_interval": 15,
    "allocator.reserved_memory": 0,
}


ENVIRONMENT = {AGENTS_URL.env: "http://rack", core.DRAIN_SECONDS.env: "8"}


@dataclass(frozen=True)
class Site:
    """``database``: its content. ``hosts``: uuid by name. ``configs``: those that schedules change, uuid by name."""

    manifests: Sequence[ServiceManifest]
    server: DatabaseServer
    database: sqlite3.Connection
    zone: str
    cluster: str
    network: str
    hosts: dict[str, str]
    configs: dict[str, str]

    def world(self, seed: int) -> World:
        self.server.restore(self.database)
        return World(seed, self.server, self.manifests, Rack, ENVIRONMENT)


@cache
def site() -> Site:
    """Costs a second. In a small world, as all that is done on it."""
    manifests, server = discover(), DatabaseServer()
    upgrade(server, manifests)  # type: ignore[arg-type]  # it uses the engine only
    server.install_audit()
    world = World(0, server, manifests, Rack, ENVIRONMENT)
    made = world.loop.run_until_complete(_make(world))
    assert not world.wrong, world.wrong
    world.end()
    hosts = {name: made[name] for name in world.hosts.names}
    configs = {name: made[name] for name, _ in OPTIONS}
    return Site(
        manifests, server, server.save(), made["zone"], made["cluster"], made["network"], hosts, configs
    )


async def _make(world: World) -> dict[str, str]:
    assert isinstance(world.hosts, Rack)
    world.hosts.power_on()
    world.start("builder")
    life = await world.until_up("builder")
    made: dict[str, str] = {}

    async def make(name: str, message: ApiJob[Any]) -> None:
        made[name] = await world.ask("builder", lambda node: _done(node, message))

    find = life.node.parts.context.config.find
    made |= {name: find(name).uuid for name, _ in OPTIONS}
    for config, value in SETTINGS.items():
        await make(config, UpdateGlobalConfig(uuid=find(config).uuid, value=value))
    await make("zone", CreateZone(name="zone"))
    await make("cluster", CreateCluster(name="c", zone_uuid=made["zone"], hypervisor="simulator"))
    for name in world.hosts.names:
        await make(name, host(name, made["cluster"]))
    await make("network", CreateL3Network(name="net", zone_uuid=made["zone"]))
    await make("range", CreateIpRange(name="range", l3_network_uuid=made["network"], cidr=NETWORK))
    world.machines["builder"].wanted = False
    world.stop(life)
    while not life.over:
        await asyncio.sleep(1)
    return made


def host(name: str, cluster: str) -> AddHost:
    size = {"cpu": HOST_CPU, "memory": HOST_MEMORY}
    return AddHost(name=name, cluster_uuid=cluster, management_ip=name, parameters=size)


async def _done(node: Any, message: ApiJob[Any]) -> str:
    jobs = node.parts.context.jobs
    job = await jobs.wait((await jobs.accept(message, SYSTEM)).uuid, 60)
    assert job.state is JobState.SUCCEEDED, job
    return str(job.resource_uuid)
