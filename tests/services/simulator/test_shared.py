"""Management nodes and simulated hosts outside of them: shared by several, killed under them, missing, misnamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.config.file import ConfigFileError
from mgmtnode.loader import LoadError
from mgmtnode.testing.cloud import Cloud, NodeThread, operator_token
from tests.services.simulator.process import SimulatorProcess
from tests.services.vm.site import GIB, Site

ENV = "MGMTNODE_SIMULATOR_AGENTS_URL"


def node(
    directory: Path, name: str = "test", *, database_url: str = "", bus_url: str = "", **environ: str
) -> NodeThread:
    return NodeThread(
        directory / name, name=name, database_url=database_url, bus_url=bus_url, environ=environ
    )


@contextmanager
def clouds(*threads: NodeThread) -> Iterator[list[Cloud]]:
    """Each running node as the operator sees it."""
    started: list[NodeThread] = []
    found: list[Cloud] = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        token = operator_token(threads[0])
        found = [Cloud(thread, token) for thread in threads]
        yield found
    finally:
        for cloud in found:
            cloud.close()
        for thread in reversed(started):
            thread.stop()


def never_again(history: list[dict[str, Any]]) -> None:
    """Per resource and host, orders and fences of what was begun only grow."""
    last: dict[tuple[str, str], tuple[list[int], int]] = {}
    for line in history:
        if line["outcome"] == "started":
            key = line["host"], line["resource"]
            order, fence = last.get(key, ([0, 0, 0], 0))
            assert line["order"] > order
            assert line["fence"] >= fence
            last[key] = line["order"], line["fence"]


@pytest.mark.integration
def test_two_nodes_share_their_hosts(tmp_path: Path, upgraded_postgres_url: str, rabbit_url: str) -> None:
    with SimulatorProcess(tmp_path / "simulator") as process:
        more = {"database_url": upgraded_postgres_url, "bus_url": rabbit_url, ENV: process.url}
        with clouds(node(tmp_path, "a", **more), node(tmp_path, "b", **more)) as (one, other):
            site = Site(one, hosts=4)
            site.cloud = other
            vms = [site.vm(host=number % 4) for number in range(8)]
            site.cloud = one
            for number, vm in enumerate(vms):
                there = site.host((number + 1) % 4)
                assert site.act(vm, "migrate", host_uuid=there)["host_uuid"] == there
            for vm in vms:
                other.delete("vms", vm["uuid"])
    history = process.history()
    never_again(history)
    assert sum(line["outcome"] == "done" for line in history) == 8 * (1 + 2 + 1)


def test_a_vm_is_made_though_the_process_of_its_host_is_killed_meanwhile(tmp_path: Path) -> None:
    with (
        SimulatorProcess(tmp_path / "simulator") as process,
        clouds(node(tmp_path, **{ENV: process.url})) as (cloud,),
    ):
        site = Site(cloud)
        site.config("simulator.command_seconds", 60)
        site.fault(0, "hang", "start", times=1)
        fields = {"name": "vm", "cpu": 1, "memory": GIB, "host_uuid": site.host(0)}
        job = site.submit("POST", "/vms", fields)
        cloud.until(lambda: any(line["outcome"] == "started" for line in process.history()))
        process.kill()
        process.start()
        ended = site.ended(job)
        assert ended["state"] == "Succeeded", ended["error"]
    told = [line["outcome"] for line in process.history() if line["outcome"] in ("booted", "started", "done")]
    assert told == ["booted", "started", "booted", "started", "done"]


def test_the_delay_of_a_command_is_the_nodes_to_configure(tmp_path: Path) -> None:
    with (
        SimulatorProcess(tmp_path / "simulator") as process,
        clouds(node(tmp_path, **{ENV: process.url})) as (cloud,),
    ):
        site = Site(cloud)
        site.config("simulator.delay_ms", 600_000)
        site.config("simulator.command_seconds", 1)
        fields = {"name": "vm", "cpu": 1, "memory": GIB}
        assert site.run("POST", "/vms", fields)["error"]["code"] == "agent.timeout"


@pytest.mark.integration
def test_a_node_of_a_cluster_refuses_simulated_hosts_of_its_own(
    tmp_path: Path, upgraded_postgres_url: str, rabbit_url: str
) -> None:
    cluster = {"database_url": upgraded_postgres_url, "bus_url": rabbit_url}
    with clouds(node(tmp_path, **cluster)) as (cloud,):
        zone = cloud.create("zones", name="zone")["uuid"]
        fields = {"name": "c", "zone_uuid": zone, "hypervisor": "simulator"}
        where = {"cluster_uuid": cloud.create("clusters", **fields)["uuid"], "management_ip": "192.0.2.1"}
        answer = cloud.request("POST", "/hosts", {"name": "host"} | where)
        assert (answer.status_code, answer.json()["code"]) == (409, "simulator.not-shared")
        assert cloud.list("hosts") == []
    with clouds(node(tmp_path, database_url=upgraded_postgres_url)) as (cloud,):
        cloud.create("hosts", name="host", **where)
    refused = node(tmp_path, **cluster)
    try:
        with pytest.raises(ConfigFileError, match="agents_url on every node"):
            refused.start()
    finally:
        refused.stop()


@pytest.mark.parametrize("url", ["localhost:9000", "sim://x", "http://", "ftp://h:1"])
def test_an_address_that_is_none_is_refused_at_boot(tmp_path: Path, url: str) -> None:
    refused = node(tmp_path, **{ENV: url})
    try:
        with pytest.raises((ConfigFileError, LoadError), match="expected http://HOST"):
            refused.start()
    finally:
        refused.stop()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"MGMTNODE_AGENT_CERTIFICATE": "a.pem"}, "agent.certificate and agent.key belong together"),
        ({"MGMTNODE_AGENT_CA": "/nowhere/ca.pem"}, "agent.ca /nowhere/ca.pem"),
    ],
)
def test_certificates_that_cannot_be_used_are_refused_at_boot(
    tmp_path: Path, environ: dict[str, str], words: str
) -> None:
    refused = node(tmp_path, **environ)
    try:
        with pytest.raises(ConfigFileError, match=words):
            refused.start()
    finally:
        refused.stop()
