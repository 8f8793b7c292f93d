"""The session of the README: from nothing to VMs and back to nothing, with the node killed on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e import books
from tests.e2e.dev_node import DevNode

pytestmark = pytest.mark.slow
TERMINAL = {"Succeeded", "Failed", "Cancelled"}
GIB = 1 << 30


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DevNode]:
    made = DevNode(tmp_path / "data")
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


def until_ended(http: httpx.Client, job: str) -> dict[str, object]:
    """The job, once it has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = http.get(f"/jobs/{job}", params={"wait": 30}).json()
        if found["state"] in TERMINAL:
            return dict(found)
    raise AssertionError(f"job {job} did not end")


def test_an_operator_takes_a_cloud_from_nothing_to_vms_and_back(node: DevNode) -> None:
    assert (node.data_dir / "admin-token").stat().st_mode & 0o777 == 0o600
    assert {o["name"] for o in json.loads(node.mnctl("offering", "list", "-o", "json"))} == {
        "small",
        "medium",
        "large",
    }
    node.mnctl("vm", "launch", "web-1")
    vm = json.loads(node.mnctl("vm", "show", "web-1", "-o", "json"))
    assert (vm["state"], len(vm["nics"])) == ("Running", 1)
    for action, state in (
        ("pause", "Paused"),
        ("resume", "Running"),
        ("stop", "Stopped"),
        ("start", "Running"),
    ):
        node.mnctl("vm", action, "web-1")
        assert json.loads(node.mnctl("vm", "show", "web-1", "-o", "json"))["state"] == state
    node.mnctl("vm", "migrate", "web-1")
    moved = json.loads(node.mnctl("vm", "show", "web-1", "-o", "json"))
    assert moved["host_uuid"] != vm["host_uuid"] and moved["nics"] == vm["nics"]
    found = json.loads(node.mnctl("query", "vm", "host.cluster.zone.name=dev", "-o", "json"))
    assert [v["name"] for v in found] == ["web-1"]
    node.mnctl("vm", "delete", "web-1", "--yes")
    node.mnctl("vm", "recover", "web-1")
    node.mnctl("zone", "delete", "dev", "--yes", "--force")
    assert json.loads(node.mnctl("zone", "list", "-o", "json")) == []
    node.mnctl("vm", "show", "web-1", code=3)
    assert node.stop() == 0
    books.check(node.data_dir)
    assert books.rows(node.data_dir / "mgmtnode.db", "SELECT count(*) FROM allocation") == [(0,)]


def test_a_kill_in_the_middle_of_fifty_creates_loses_and_leaks_nothing(node: DevNode) -> None:
    with node.http() as http:
        slow = http.patch(
            "/global-configs/simulator.delay_ms", json={"value": 1500}, headers={"prefer": "wait=9"}
        )
        assert slow.status_code == 200, slow.text
    jobs = post_fifty(node)
    node.kill()
    interrupted = "SELECT count(*) FROM job WHERE state = 'Running'"
    assert books.rows(node.data_dir / "mgmtnode.db", interrupted)[0][0] > 10
    node.start()
    with node.http() as http:
        ended = [until_ended(http, job) for job in jobs]
        assert len({job["resource_uuid"] for job in ended}) == 50
        succeeded = {str(job["resource_uuid"]) for job in ended if job["state"] == "Succeeded"}
        running = http.get("/vms", params={"limit": 1000, "q": "state=Running"}).json()["items"]
        assert {vm["uuid"] for vm in running} == succeeded
        assert len({nic["ip"] for vm in running for nic in vm["nics"]}) == len(running)
        clean_up(http, [vm["uuid"] for vm in running])
    assert node.stop() == 0
    books.check(node.data_dir)


def post_fifty(node: DevNode) -> list[str]:
    """Accepts fifty creates without waiting for any of them; returns the jobs."""
    with node.http() as http:
        (network,) = http.get("/l3-networks").json()["items"]
        jobs = []
        for number in range(50):
            body = {"name": f"vm-{number}", "cpu": 1, "memory": GIB, "l3_network_uuids": [network["uuid"]]}
            answer = http.post("/vms", json=body, headers={"idempotency-key": f"create {number}"})
            assert answer.status_code == 202, answer.text
            jobs.append(str(answer.json()["uuid"]))
        again = http.post("/vms", json=body, headers={"idempotency-key": "create 49"})
        assert again.json()["uuid"] == jobs[-1]
        return jobs


def clean_up(http: httpx.Client, vms: list[str]) -> None:
    for uuid in vms[::2]:
        answer = http.delete(f"/vms/{uuid}", params={"force": "true"}, headers={"prefer": "wait=60"})
        assert answer.status_code == 200, answer.text
