"""What ``mgmtnode dev`` starts with: one zone of simulated hosts, offerings, a network, and a token to
use them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgmtnode.contracts.session import EnsureApiKey
from mgmtnode.jobs.job import SYSTEM, Job, JobState

if TYPE_CHECKING:
    from mgmtnode.bus.message import ApiJob
    from mgmtnode.node import ManagementNode

GIB = 1 << 30
OFFERINGS = (("small", 1, 1 * GIB), ("medium", 2, 4 * GIB), ("large", 4, 8 * GIB))
HOST_CPU, HOST_MEMORY = 32, 128 * GIB
SEED_SECONDS = 60.0


def write_token(path: Path, token: str) -> None:
    """Only the owner may read it, from the first byte on."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(fd, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(token + "\n")


@dataclass
class Seed:
    """Given to the node as what to do once it serves. Does nothing to an installation that has a zone."""

    hosts: int
    made: dict[str, str] = field(default_factory=dict)

    async def __call__(self, node: ManagementNode) -> None:
        await self._token(node)
        context = node.parts.context
        zone = context.manifests.get("zone")
        if zone is None or await self._zones(node):
            return
        for key, message in self._first(node):
            self.made[key] = (await self._make(node, key, message)).resource_uuid
        await self._hosts(node)

    async def _token(self, node: ManagementNode) -> None:
        path = node.data_dir / "admin-token"
        kept = path.read_text().strip() if path.exists() else ""
        made = await node.db.write(lambda tx: tx.call(EnsureApiKey(key_name="dev", token=kept)))
        if made.token != kept:
            write_token(path, made.token)

    async def _zones(self, node: ManagementNode) -> bool:
        from mgmtnode.contracts.zone import ZONE

        return bool(await node.db.read(lambda tx: node.parts.context.query.find(tx, ZONE, limit=1)))

    def _first(self, node: ManagementNode) -> Iterator[tuple[str, ApiJob[Any]]]:
        """What comes before the hosts, in order; each may name what was made before it."""
        from mgmtnode.contracts.cluster import CreateCluster
        from mgmtnode.contracts.zone import CreateZone

        loaded = set(node.parts.context.manifests)
        yield "zone", CreateZone(name="dev", description="made by mgmtnode dev")
        if {"cluster", "simulator"} <= loaded:
            yield "cluster", CreateCluster(name="dev", zone_uuid=self.made["zone"], hypervisor="simulator")
        if "offering" in loaded:
            from mgmtnode.contracts.offering import CreateInstanceOffering

            for name, cpu, memory in OFFERINGS:
                yield f"offering {name}", CreateInstanceOffering(name=name, cpu=cpu, memory=memory)
        if "network" in loaded:
            from mgmtnode.contracts.ip_range import CreateIpRange
            from mgmtnode.contracts.network import CreateL3Network

            yield "network", CreateL3Network(name="dev-net", zone_uuid=self.made["zone"])
            yield (
                "range",
                CreateIpRange(name="dev-range", l3_network_uuid=self.made["network"], cidr="10.0.0.0/16"),
            )

    async def _hosts(self, node: ManagementNode) -> None:
        from mgmtnode.contracts.host import AddHost

        if "cluster" not in self.made or "host" not in node.parts.context.manifests:
            return
        jobs = node.parts.context.jobs
        accepted: list[Job] = []
        for number in range(1, self.hosts + 1):
            message = AddHost(
                name=f"host-{number}",
                cluster_uuid=self.made["cluster"],
                management_ip=f"192.0.2.{number}" if number < 255 else f"sim-{number}",
                parameters={"cpu": HOST_CPU, "memory": HOST_MEMORY},
            )
            accepted.append(await jobs.accept(message, SYSTEM, key=f"dev:host {number}"))
        for number, job in enumerate(accepted, 1):
            await self._ended(node, f"host {number}", job)

    async def _make(self, node: ManagementNode, key: str, message: ApiJob[Any]) -> Job:
        return await self._ended(
            node, key, await node.parts.context.jobs.accept(message, SYSTEM, key=f"dev:{key}")
        )

    async def _ended(self, node: ManagementNode, key: str, job: Job) -> Job:
        job = await node.parts.context.jobs.wait(job.uuid, SEED_SECONDS)
        if job.state is not JobState.SUCCEEDED:
            why = job.error.message if job.error else f"it is {job.state}"
            raise RuntimeError(f"could not make the {key} of the development cloud: {why}")
        return job
