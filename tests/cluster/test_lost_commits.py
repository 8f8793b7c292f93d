"""A PostgreSQL failover that loses commits, under real nodes: hosts know more than the database does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mgmtnode.cli.seed import seed_cluster
from mgmtnode.client import Client
from mgmtnode.testing.audit.hosts import of_process
from mgmtnode.testing.local_cluster import LocalCluster
from mgmtnode.testing.local_cluster.operator import ensure_token
from mgmtnode.testing.process import ServerMissing
from tests.backups import recover, save

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VMS = 4
PATIENCE = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path / "cluster", 2)
    try:
        cluster.start()
        with Client(cluster.url, ensure_token(cluster)) as client:
            seed_cluster(client, 2)
        yield cluster
    except ServerMissing as missing:
        from mgmtnode.testing.plugin import servers_are_required

        (pytest.fail if servers_are_required() else pytest.skip)(str(missing))
    finally:
        cluster.stop(at_once=True)
        cluster.directory.remove_servers()


def job(http: httpx.Client, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A job that succeeded."""
    key = {"Idempotency-Key": f"{path} {time.monotonic_ns()}"}
    accepted = asked(lambda: http.post(path, json=body or {}, headers=key))
    ended = asked(lambda: http.get(f"/jobs/{accepted['uuid']}?wait={int(PATIENCE)}"))
    assert ended["state"] == "Succeeded", ended
    return ended


def asked(ask: Callable[[], httpx.Response]) -> dict[str, Any]:
    """The answer, asked for again while the database is away."""
    until = time.monotonic() + PATIENCE
    while (answer := ask()).status_code >= 500:
        assert time.monotonic() < until, answer.text
        time.sleep(0.5)
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_hosts_obey_a_database_that_forgot_what_they_did(cluster: LocalCluster, tmp_path: Path) -> None:
    with cluster.http() as http:
        network = http.get("/l3-networks").json()["items"][0]["uuid"]
        wanted = {"cpu": 1, "memory": 1 << 30, "l3_network_uuids": [network]}
        vms = [job(http, "/vms", wanted | {"name": f"vm-{n}"})["resource_uuid"] for n in range(VMS)]
        save(cluster.postgres, tmp_path / "saved")
        for vm in vms:
            for action in ("stop", "start", "stop", "start", "reboot"):
                job(http, f"/vms/{vm}/actions/{action}")
        forgotten = job(http, "/vms", wanted | {"name": "forgotten"})["resource_uuid"]
        recover(cluster.postgres, tmp_path / "saved")
        for (
            vm
        ) in vms:  # numbers that were given out before would be refused, or answered with what was done then
            assert job(http, f"/vms/{vm}/actions/stop")["resource_uuid"] == vm
            assert http.get(f"/vms/{vm}").json()["state"] == "Stopped"
        addresses = [host["management_ip"] for host in http.get("/hosts").json()["items"]]
        there = {uuid for _, uuid in of_process(lambda: cluster.agents_url)(addresses)}
        assert forgotten in there
        assert http.get(f"/vms/{forgotten}").status_code == 404
        for vm in vms:
            job(http, f"/vms/{vm}/actions/start")
            assert http.get(f"/vms/{vm}").json()["state"] == "Running"
    shutil.rmtree(tmp_path / "saved")
