"""A node with the host service and a scripted hypervisor, and a cluster to add hosts to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.testing.cloud import Cloud, NodeThread, operator_token
from services.host.service import HostService
from tests.services.host import scripted

SERVICES = ("identity", "config", "zone", "cluster", "host")


@dataclass
class Rack:
    """The cloud, its script, and the cluster that its hosts go to."""

    cloud: Cloud
    script: scripted.Script
    zone: str
    cluster: str

    def add(self, address: str = "h1", **more: Any) -> dict[str, Any]:
        fields = {"name": address, "cluster_uuid": self.cluster, "management_ip": address} | more
        return self.cloud.create("hosts", **fields)

    @property
    def service(self) -> HostService:
        found = {manifest.id: service for manifest, service in self.cloud.node.parts.services}["host"]
        assert isinstance(found, HostService)
        return found

    def config(self, name: str, value: object) -> None:
        uuid = self.cloud.list("global-configs", f"name={name}")[0]["uuid"]
        self.cloud.update("global-configs", uuid, value=value)

    def status(self, uuid: str) -> str:
        return str(self.cloud.get("hosts", uuid)["status"])

    def events(self, uuid: str) -> list[str]:
        from mgmtnode.jobs.job import SYSTEM

        logged = self.cloud.thread.run(self.cloud.node.parts.events.read(None, 1000, SYSTEM))
        return [event.name for event in logged if event.resource_uuid == uuid]


@pytest.fixture
def rack(database_url: str, tmp_path: Path) -> Iterator[Rack]:
    script = scripted.fresh()
    thread = NodeThread(tmp_path / "node", database_url=database_url)
    thread.start(scripted.points(*SERVICES))
    cloud = Cloud(thread, operator_token(thread))
    try:
        zone = cloud.create("zones", name="west")["uuid"]
        cluster = cloud.create("clusters", name="racks", zone_uuid=zone, hypervisor="scripted")["uuid"]
        yield Rack(cloud, script, zone, cluster)
    finally:
        script.hold.clear()
        cloud.close()
        thread.stop()
