"""The AMQP API of a cluster: every node serves the one queue, and one that is killed takes no answer and no event
with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mgmtnode.api.amqp import topology
from mgmtnode.cli.seed import seed_cluster
from mgmtnode.client import Client
from mgmtnode.testing.local_cluster import LocalCluster
from mgmtnode.testing.local_cluster.operator import ensure_token
from mgmtnode.testing.process import ServerMissing
from tests.integration.outside import Message, Outside, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

VMS, HOSTS = 150, 30
SECONDS = 240.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path / "cluster", 3)
    try:
        start(cluster)
        yield cluster
    finally:
        cluster.stop(at_once=True)
        for server in (cluster.postgres, cluster.rabbit):
            shutil.rmtree(server.directory, ignore_errors=True)  # the logs stay


def start(cluster: LocalCluster) -> None:
    try:
        cluster.start()
    except ServerMissing as missing:
        from mgmtnode.testing.plugin import servers_are_required

        (pytest.fail if servers_are_required() else pytest.skip)(str(missing))
    with Client(cluster.url, ensure_token(cluster)) as client:
        seed_cluster(client, HOSTS)
    for node in cluster.nodes.values():
        until(lambda url=node.url: serves(url))  # type: ignore[misc]


def serves(url: str) -> bool:
    return '"AMQP API","ok":true' in httpx.get(f"{url}/readyz?verbose=true").text


def consumers(cluster: LocalCluster) -> int:
    with Outside(cluster.amqp_url, "") as client:
        return int(client.channel.queue_declare(topology.REQUESTS, passive=True).method.consumer_count)


class Books:
    """What was heard: the ends by what they answer, and the revisions of each VM that events told of."""

    def __init__(self) -> None:
        self.ended: dict[str | None, Message] = {}
        self.revisions: dict[str, set[int]] = {}
        self.created: set[str] = set()

    def enter(self, message: Message) -> None:
        if message.type == "job.ended":
            self.ended[message.correlation_id] = message
        elif message.type != "job.accepted":
            assert message.type.startswith("vm."), message
            vm = message.body["resource_uuid"]
            self.revisions.setdefault(vm, set()).add(message.body["revision"])
            if message.type == "vm.created":
                self.created.add(vm)

    def whole(self, count: int) -> bool:
        """Every end, and every event of every VM up to the last one heard: revisions without a gap."""
        told = len(self.ended) == len(self.created) == count
        return told and all(max(seen) == len(seen) for seen in self.revisions.values())


def test_a_killed_node_loses_no_answer_and_no_event(cluster: LocalCluster) -> None:
    assert consumers(cluster) == 3
    with Outside(cluster.amqp_url, cluster.token) as outside:
        [offering] = outside.ask("instance_offering.list", {"q": ["name=small"]}).body["items"]
        outside.listen(topology.EVENTS, "vm.#")
        body = {"instance_offering_uuid": offering["uuid"]}
        asked = {
            outside.publish("vm.create", body | {"name": f"vm-{n}"}, message_id=f"create-{n}"): f"vm-{n}"
            for n in range(VMS)
        }
        books = Books()
        while not books.whole(VMS):
            [message] = outside.get(1, SECONDS)
            books.enter(message)
            if len(books.ended) >= VMS // 5 and cluster.nodes["node-2"].running:
                cluster.nodes["node-2"].kill()
        assert {c: m.body["result"]["name"] for c, m in books.ended.items()} == asked
        assert {m.body["state"] for m in books.ended.values()} == {"Succeeded"}
        with cluster.http() as http:
            found = http.get("/vms", params={"limit": 1000}).json()["items"]
        assert sorted(vm["name"] for vm in found) == sorted(asked.values())
        until(lambda: outside.depth(topology.REQUESTS) == 0)
        assert outside.depth(topology.DEAD) == 0
