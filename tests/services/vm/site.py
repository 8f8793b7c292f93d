"""A zone with a cluster of simulated hosts and a network, the VMs on them, and the faults they can be given."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mgmtnode.testing.cloud import WAIT, Cloud, Refused
from services.host.service import HostService
from tests.services.vm import books

GIB = 1 << 30
Row = dict[str, Any]
SETTINGS = {
    "simulator.delay_ms": 0,
    "simulator.migration_ms": 0,
    "job.undo_seconds": 1,
    "host.ping_interval": 3600,
    "host.ping_failures": 1,
    "host.debt_interval": 3600,
    "host.unknown_after": 0,
    "allocator.reserved_memory": 0,
}


class Site:
    """``hosts``: their rows, in the order they were added; 8 CPUs and 8 GiB each."""

    def __init__(self, cloud: Cloud, *, hosts: int = 2) -> None:
        self.cloud = cloud
        self.impatient = False
        for name, value in SETTINGS.items():
            self.config(name, value)
        self.zone = cloud.create("zones", name="zone")["uuid"]
        self.cluster = cloud.create("clusters", name="cluster", zone_uuid=self.zone, hypervisor="simulator")[
            "uuid"
        ]
        self.hosts: list[Row] = []
        for _ in range(hosts):
            self.add_host()
        self.network = self.add_network("10.0.0.0/24")

    # what there is

    def add_host(self, *, cluster: str = "", cpu: int = 8, memory: int = 8 * GIB) -> Row:
        number = len(self.hosts) + 1
        host = self.cloud.create(
            "hosts",
            name=f"host-{number}",
            cluster_uuid=cluster or self.cluster,
            management_ip=f"192.0.2.{number}",
            parameters={"cpu": cpu, "memory": memory},
        )
        self.hosts.append(host)
        return host

    def add_network(self, cidr: str) -> str:
        network = self.cloud.create("l3-networks", name=cidr, zone_uuid=self.zone)["uuid"]
        self.cloud.create("ip-ranges", name=cidr, l3_network_uuid=network, cidr=cidr)
        return str(network)

    def host(self, index: int = 0) -> str:
        return str(self.hosts[index]["uuid"])

    def vm(self, host: int | None = None, **fields: Any) -> Row:
        """A VM with one CPU, one GiB and a NIC, on the host with this index."""
        given: Row = {"name": "vm", "l3_network_uuids": [self.network]}
        if "instance_offering_uuid" not in fields:
            given |= {"cpu": 1, "memory": GIB}
        if host is not None:
            given["host_uuid"] = self.host(host)
        return self.cloud.create("vms", **given | fields)

    def get(self, vm: Row) -> Row:
        return self.cloud.get("vms", vm["uuid"])

    def state(self, vm: Row) -> str:
        return str(self.get(vm)["state"])

    def act(self, vm: Row, action: str, **fields: Any) -> Row:
        return self.cloud.act("vms", vm["uuid"], action, **fields)

    def config(self, name: str, value: object) -> None:
        self.cloud.config(name, value)

    def override(self, resource: str, name: str, value: object) -> None:
        self.cloud.call("POST", f"/resources/{resource}/configs", {"name": name, "value": value})

    def events(self, uuid: str) -> list[str]:
        return [event.name for event in self.cloud.logged() if event.resource_uuid == uuid]

    # jobs

    def submit(self, method: str, path: str, body: Any = None, **params: Any) -> Row:
        """The job as it was accepted, without waiting for it. Raises Refused."""
        answer = self.cloud.http.request(method, f"/v1{path}", json=body, params=params or None)
        if answer.status_code >= 400:
            raise Refused(answer)
        return dict(answer.json())

    def ended(self, job: Row) -> Row:
        """The job once it has ended."""
        until = time.monotonic() + WAIT
        while job["state"] not in ("Succeeded", "Failed", "Cancelled"):
            assert time.monotonic() < until, job
            job = self.cloud.call("GET", f"/jobs/{job['uuid']}", None, wait="10")
        return job

    def run(self, method: str, path: str, body: Any = None, **params: Any) -> Row:
        """The ended job, whatever came of it."""
        return self.ended(self.submit(method, path, body, **params))

    def do(self, vm: Row, action: str, **fields: Any) -> Row:
        """The ended job of an action, whatever came of it."""
        return self.run("POST", f"/vms/{vm['uuid']}/actions/{action}", fields)

    def refused(self, vm: Row, action: str, **fields: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            self.act(vm, action, **fields)
        return caught.value

    # hosts and their faults

    def fault(self, host: int, kind: str, action: str = "*", **more: Any) -> None:
        if (
            "times" not in more and not self.impatient
        ):  # now that hosts are known to fail, nobody waits long for them
            self.impatient = True
            self.config("simulator.command_seconds", 1)
        fault = {"kind": kind, "action": action} | more
        self.cloud.call("POST", f"/hosts/{self.host(host)}/actions/simulate-fault", {"fault": fault})

    def heal(self) -> None:
        for host in self.hosts:
            self.cloud.call("POST", f"/hosts/{host['uuid']}/actions/clear-faults", {})

    def ping(self, *hosts: int) -> None:
        """Has the hosts pinged once, and what that leads to done."""
        for index in hosts or range(len(self.hosts)):
            owner = self.cloud.owner_of(self.host(index))
            owner.run(_visit(owner.service(HostService), self.host(index)))
        self.quiet()

    def settle(self) -> None:
        """Has debts collected until there are none."""
        until = time.monotonic() + WAIT
        while self.books().debts:
            assert time.monotonic() < until, self.books().debts
            self.collect_debts()
        self.quiet()

    def collect_debts(self) -> None:
        """One round over the debts there are, whenever they were last tried."""
        self.cloud.everywhere(HostService, _collect)

    def quiet(self) -> None:
        """Returns once no job is open."""
        self.cloud.until(lambda: not self.cloud.list("jobs", "state?=Pending,Running,RollingBack"))

    def books(self) -> books.Books:
        return books.read(self.cloud)


async def _visit(service: HostService, uuid: str) -> None:
    service.watcher.commanded(uuid)
    await service.watcher._visit(uuid)


async def _collect(service: HostService) -> None:
    service.collector._attempts.clear()
    await service.collector.collect()
