"""What ``mgmtnode dev`` starts with: one zone of simulated hosts, offerings, a network, and a token to
use them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgmtnode.contracts.session import EnsureApiKey
from mgmtnode.jobs.job import SYSTEM, Job, JobState

if TYPE_CHECKING:
    from mgmtnode.bus.message import ApiJob
    from mgmtnode.client import Client
    from mgmtnode.node import ManagementNode

GIB = 1 << 30
OFFERINGS = (("small", 1, 1 * GIB), ("medium", 2, 4 * GIB), ("large", 4, 8 * GIB))
HOST_CPU, HOST_MEMORY = 32, 128 * GIB
SEED_SECONDS = 60.0

Named = tuple[str, "ApiJob[Any]"]


def write_token(path: Path, token: str) -> None:
    """Only the owner may read it, from the first byte on."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(fd, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(token + "\n")


@dataclass
class Plan:
    """What the development cloud is made of, as far as the ``loaded`` services (their ids) have a word for it."""

    loaded: Collection[str]
    made: dict[str, str] = field(default_factory=dict)
    """The uuids of what there is by now, which the caller keeps."""

    def first(self) -> Iterator[Named]:
        """What comes before the hosts, in order; each may name what was made before it."""
        from mgmtnode.contracts.cluster import CreateCluster
        from mgmtnode.contracts.zone import CreateZone

        yield "zone", CreateZone(name="dev", description="made by mgmtnode dev")
        if {"cluster", "simulator"} <= set(self.loaded):
            yield "cluster", CreateCluster(name="dev", zone_uuid=self.made["zone"], hypervisor="simulator")
        if "offering" in self.loaded:
            from mgmtnode.contracts.offering import CreateInstanceOffering

            for name, cpu, memory in OFFERINGS:
                yield f"offering {name}", CreateInstanceOffering(name=name, cpu=cpu, memory=memory)
        if "network" in self.loaded:
            from mgmtnode.contracts.ip_range import CreateIpRange
            from mgmtnode.contracts.network import CreateL3Network

            yield "network", CreateL3Network(name="dev-net", zone_uuid=self.made["zone"])
            yield (
                "range",
                CreateIpRange(name="dev-range", l3_network_uuid=self.made["network"], cidr="10.0.0.0/16"),
            )

    def hosts(self, count: int) -> Iterator[Named]:
        """May be made all at once."""
        from mgmtnode.contracts.host import AddHost

        if "cluster" not in self.made or "host" not in self.loaded:
            return
        for number in range(1, count + 1):
            yield (
                f"host {number}",
                AddHost(
                    name=f"host-{number}",
                    cluster_uuid=self.made["cluster"],
                    management_ip=f"192.0.2.{number}" if number < 255 else f"sim-{number}",
                    parameters={"cpu": HOST_CPU, "memory": HOST_MEMORY},
                ),
            )


async def seed_node(node: ManagementNode, hosts: int) -> None:
    """Makes a token, and the development cloud if the installation has no zone, from inside of a node that serves."""
    await _keep_token(node)
    if "zone" not in node.parts.context.manifests or await _has_zone(node):
        return
    plan = Plan(node.parts.context.manifests)
    for named in plan.first():
        plan.made[named[0]] = (await _ended(node, named, await _accept(node, named))).resource_uuid
    accepted = [(named, await _accept(node, named)) for named in plan.hosts(hosts)]
    for named, job in accepted:
        await _ended(node, named, job)


async def _keep_token(node: ManagementNode) -> None:
    path = node.data_dir / "admin-token"
    kept = path.read_text().strip() if path.exists() else ""
    made = await node.db.write(lambda tx: tx.call(EnsureApiKey(key_name="dev", token=kept)))
    if made.token != kept:
        write_token(path, made.token)


async def _has_zone(node: ManagementNode) -> bool:
    from mgmtnode.contracts.zone import ZONE

    return bool(await node.db.read(lambda tx: node.parts.context.query.find(tx, ZONE, limit=1)))


async def _accept(node: ManagementNode, named: Named) -> Job:
    key, message = named
    return await node.parts.context.jobs.accept(message, SYSTEM, key=f"dev:{key}")


async def _ended(node: ManagementNode, named: Named, job: Job) -> Job:
    job = await node.parts.context.jobs.wait(job.uuid, SEED_SECONDS)
    if job.state is not JobState.SUCCEEDED:
        why = job.error.message if job.error else f"it is {job.state}"
        raise RuntimeError(f"could not make the {named[0]} of the development cloud: {why}")
    return job


def seed_cluster(client: Client, hosts: int) -> None:
    """Makes the development cloud over the API, if the installation has no zone. Raises ProblemError."""
    plan = Plan(_loaded(client))
    if "zone" not in plan.loaded or client.zones.count():
        return
    for key, message in plan.first():
        plan.made[key] = client.submit(message, wait=SEED_SECONDS / 2).result(SEED_SECONDS)["uuid"]
    for job in [client.submit(message) for _, message in plan.hosts(hosts)]:
        job.result(SEED_SECONDS)


def _loaded(client: Client) -> set[str]:
    """The services that a message of the plan needs, seen by their paths in the API."""
    from mgmtnode.contracts.cluster import CreateCluster
    from mgmtnode.contracts.host import AddHost
    from mgmtnode.contracts.network import CreateL3Network
    from mgmtnode.contracts.offering import CreateInstanceOffering
    from mgmtnode.contracts.simulator import SimulateFault
    from mgmtnode.contracts.zone import CreateZone

    paths = client.request("GET", "/openapi.json").json()["paths"]
    tells = {
        "zone": CreateZone.api,
        "cluster": CreateCluster.api,
        "host": AddHost.api,
        "offering": CreateInstanceOffering.api,
        "network": CreateL3Network.api,
        "simulator": SimulateFault.api,
    }
    return {service for service, api in tells.items() if f"/v1{api.path}" in paths}
