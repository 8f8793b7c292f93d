"""A node with the host service and a scripted hypervisor, and a cluster to add hosts to."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mgmtnode.bus.message import Message
from mgmtnode.contracts.host import SettleDebt
from mgmtnode.jobs.job import SYSTEM, JobState
from mgmtnode.testing.cloud import Cloud, NodeThread, Refused, operator_token
from services.host.service import HostService
from tests.services.host import scripted

R = TypeVar("R")
SERVICES = ("identity", "config", "zone", "cluster", "host")


@dataclass
class Rack:
    """The cloud, its script, and the cluster that its hosts go to."""

    cloud: Cloud
    script: scripted.Script
    zone: str
    cluster: str
    directory: Path
    database_url: str

    def add(self, address: str = "h1", **more: Any) -> dict[str, Any]:
        fields = {"name": address, "cluster_uuid": self.cluster, "management_ip": address} | more
        return self.cloud.create("hosts", **fields)

    @property
    def service(self) -> HostService:
        found = {manifest.id: service for manifest, service in self.cloud.node.parts.services}["host"]
        assert isinstance(found, HostService)
        return found

    def call(self, msg: Message[R]) -> R:
        """The answer to a message between services."""
        return self.cloud.thread.run(self.cloud.node.bus.call(msg))

    def begin(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Starts a coroutine on the node's loop."""
        return self.cloud.thread.begin(work)

    async def settle(self, resource_uuid: str, host_uuid: str) -> None:
        """Runs a settlement to its end."""
        jobs = self.cloud.node.parts.context.jobs
        job = await jobs.accept(SettleDebt(resource_uuid=resource_uuid, host_uuid=host_uuid), SYSTEM)
        assert (await jobs.wait(job.uuid, 20)).state is JobState.SUCCEEDED

    def restart(self) -> None:
        """Stops the node and starts another on what it left."""
        before, services = self.cloud.thread, scripted.points(*SERVICES)
        self.cloud.close()
        before.stop()
        thread = NodeThread(self.directory, database_url=self.database_url)
        thread.start(services)
        self.cloud = Cloud(thread, operator_token(thread))

    def refused(self, work: Callable[[], object]) -> Refused:
        with pytest.raises(Refused) as refused:
            work()
        return refused.value

    def ping(self, *uuids: str) -> None:
        """Has the hosts pinged now, and does not wait for it."""

        async def poke() -> None:
            for uuid in uuids:
                self.service.watcher.rounds.poke(uuid)

        self.cloud.thread.run(poke())

    def silence(self, host: dict[str, Any]) -> None:
        """The host falls silent, and is noticed to have."""
        self.script.down.add(host["management_ip"])
        self.cloud.until(lambda: self.ping(host["uuid"]) or self.status(host["uuid"]) == "Disconnected")

    def config(self, name: str, value: object) -> None:
        uuid = self.cloud.list("global-configs", f"name={name}")[0]["uuid"]
        self.cloud.update("global-configs", uuid, value=value)

    def status(self, uuid: str) -> str:
        return str(self.cloud.get("hosts", uuid)["status"])

    def events(self, uuid: str) -> list[str]:
        logged = self.cloud.thread.run(self.cloud.node.parts.events.read(None, 1000, SYSTEM))
        return [event.name for event in logged if event.resource_uuid == uuid]


@pytest.fixture
def rack(database_url: str, tmp_path: Path) -> Iterator[Rack]:
    script, directory = scripted.fresh(), tmp_path / "node"
    thread = NodeThread(directory, database_url=database_url)
    thread.start(scripted.points(*SERVICES))
    rack = Rack(Cloud(thread, operator_token(thread)), script, "", "", directory, database_url)
    try:
        rack.zone = rack.cloud.create("zones", name="west")["uuid"]
        fields = {"zone_uuid": rack.zone, "hypervisor": "scripted"}
        rack.cluster = rack.cloud.create("clusters", name="racks", **fields)["uuid"]
        yield rack
    finally:
        script.heal()
        rack.cloud.close()
        rack.cloud.thread.stop()
