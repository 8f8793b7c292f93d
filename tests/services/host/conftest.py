"""A node with the host service and a scripted hypervisor, and a cluster to add hosts to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mgmtnode.bus.message import Message
from mgmtnode.contracts.host import SettleDebt
from mgmtnode.jobs.job import JobState
from mgmtnode.testing.cloud import Cloud, Refused
from mgmtnode.testing.flavour import Flavour, stop
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
    flavour: Flavour

    def add(self, address: str = "h1", **more: Any) -> dict[str, Any]:
        fields = {"name": address, "cluster_uuid": self.cluster, "management_ip": address} | more
        return self.cloud.create("hosts", **fields)

    def service(self, uuid: str) -> HostService:
        """The service that works on this host: that of its owner."""
        return self.cloud.owner_of(uuid).service(HostService)

    def watched(self, uuid: str) -> bool:
        """Whether any node pings the host."""
        return any(uuid in service.watcher.rounds for service in self.cloud.services(HostService))

    def begin(self, msg: Message[R]) -> Future[R]:
        """Sends a message between services; the answer is to come."""
        thread = self.cloud.turn()
        return thread.begin(thread.node.bus.call(msg))

    def settle(self, resource_uuid: str, host_uuid: str) -> None:
        """Runs a settlement to its end."""
        job = self.cloud.run_job(SettleDebt(resource_uuid=resource_uuid, host_uuid=host_uuid))
        assert job.state is JobState.SUCCEEDED

    def restart(self) -> None:
        """Stops all nodes and starts others on what they left."""
        stop(self.cloud)
        self.cloud = self.flavour.start(self.directory, points=scripted.points(*SERVICES))

    def refused(self, work: Callable[[], object]) -> Refused:
        with pytest.raises(Refused) as refused:
            work()
        return refused.value

    def ping(self, *uuids: str) -> None:
        """Has the hosts pinged now, and does not wait for it."""

        async def poke(uuid: str) -> None:
            self.service(uuid).watcher.rounds.poke(uuid)

        for uuid in uuids:
            self.cloud.owner_of(uuid).run(poke(uuid))

    def silence(self, host: dict[str, Any]) -> None:
        """The host falls silent, and is noticed to have."""
        self.script.down.add(host["management_ip"])
        self.cloud.until(lambda: self.ping(host["uuid"]) or self.status(host["uuid"]) == "Disconnected")

    def config(self, name: str, value: object) -> None:
        self.cloud.config(name, value)

    def status(self, uuid: str) -> str:
        return str(self.cloud.get("hosts", uuid)["status"])

    def events(self, uuid: str) -> list[str]:
        return [event.name for event in self.cloud.logged() if event.resource_uuid == uuid]


@pytest.fixture
def rack(flavour: Flavour, tmp_path: Path) -> Iterator[Rack]:
    script = scripted.fresh()
    cloud = flavour.start(tmp_path, points=scripted.points(*SERVICES))
    rack = Rack(cloud, script, "", "", tmp_path, flavour)
    try:
        rack.zone = rack.cloud.create("zones", name="west")["uuid"]
        fields = {"zone_uuid": rack.zone, "hypervisor": "scripted"}
        rack.cluster = rack.cloud.create("clusters", name="racks", **fields)["uuid"]
        yield rack
    finally:
        script.heal()
        stop(rack.cloud)
