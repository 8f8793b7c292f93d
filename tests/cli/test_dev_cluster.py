"""``mgmtnode dev --nodes``, as a process: from nothing to a cluster, through several deaths, and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from mgmtnode.testing.local_cluster.directory import ClusterDirectory
from mgmtnode.testing.servers import PostgresServer, RabbitServer
from tests.testing.test_local_cluster import everything, gone

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PATIENCE = 120.0


class Dev:
    """One run of the command on ``directory``."""

    def __init__(self, directory: Path, *options: str) -> None:
        words = ["dev", "--nodes", "2", "--port", "0", "--hosts", "2", "--data-dir", str(directory), *options]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MGMTNODE_")}
        self.directory, self.said, self.url = directory, list[str](), ""
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "mgmtnode.cli", *words],
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        self.said.extend(self.popen.stderr)

    def ready(self) -> Dev:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline().split()
        assert line[:1] == ["ready"], "".join(self.said)
        self.url = line[1]
        return self

    def hear(self, text: str) -> None:
        """Waits until it has said this."""
        self.until(lambda: any(text in line for line in self.said))

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end and self.popen.poll() is None, "".join(self.said)
            time.sleep(0.05)

    def pid(self, node: str) -> int:
        return int((self.directory / "nodes" / f"{node}.pid").read_text())

    @property
    def servers(self) -> Any:
        return json.loads((self.directory / "servers.json").read_text())

    def http(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {(self.directory / 'admin-token').read_text().strip()}"}
        return httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=PATIENCE)

    def end(self, number: signal.Signals) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE)

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


Start = Callable[..., Dev]


@pytest.fixture
def start(postgres_server: PostgresServer, rabbit_server: RabbitServer, tmp_path: Path) -> Iterator[Start]:
    """The servers are asked for so that the tests are skipped where there are none; each cluster has its own."""
    started: list[Dev] = []

    def begin(*options: str) -> Dev:
        started.append(Dev(tmp_path / "cloud", *options))
        return started[-1]

    yield begin
    for dev in started:
        dev.close()
    ClusterDirectory(tmp_path / "cloud").remove_servers()


def test_a_cluster_starts_survives_its_nodes_and_its_parent_and_leaves_nothing(start: Start) -> None:
    dev = start().ready()
    first = everything(dev.servers)
    with dev.http() as http:
        offering = http.get("/instance-offerings", params={"q": "name=small"}).json()["items"][0]["uuid"]
        body = {"name": "web-1", "instance_offering_uuid": offering}
        assert http.post("/vms", json=body, headers={"prefer": "wait=60"}).status_code == 201
        killed = dev.pid("node-2")
        os.kill(killed, signal.SIGKILL)
        dev.hear("node-2 was ended by SIGKILL; starting it again in 1 s")
        dev.hear("node-2 serves again")
        assert dev.pid("node-2") != killed
        assert everything(dev.servers) != first
        os.kill(dev.servers["postgres"]["pid"], signal.SIGKILL)
        dev.hear("postgres serves again")
    left = everything(dev.servers)
    dev.end(signal.SIGKILL)
    again = start().ready()
    assert gone(left, 0.0)
    with again.http() as http:
        assert [vm["name"] for vm in http.get("/vms").json()["items"]] == ["web-1"]
        assert len(http.get("/hosts").json()["items"]) == 2
    left = everything(again.servers)
    assert again.end(signal.SIGTERM) == 0
    assert gone(left, 0.0)
    assert (
        not list((again.directory / "nodes").glob("*.pid"))
        and not (again.directory / "servers.json").exists()
    )


def test_a_node_stays_away_if_it_is_not_to_be_restarted(start: Start) -> None:
    dev = start("--no-restart").ready()
    os.kill(dev.pid("node-1"), signal.SIGTERM)
    dev.hear("node-1 ended with exit code 0, and stays away")
    with dev.http() as http:
        assert http.get("/zones").status_code == 200
    assert dev.end(signal.SIGINT) == 0


def test_told_to_stop_while_it_starts_it_ends_what_it_has_started(start: Start) -> None:
    dev = start()
    dev.hear("starting 2 nodes")
    assert dev.end(signal.SIGTERM) == 0
    assert dev.said[-1] == "told to stop before it served\n"
