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
VHOST = "api"
SECONDS = 240.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    def where(_: str) -> dict[str, str]:
        return {"MGMTNODE_API_AMQP_URL": cluster.rabbit.vhost_url(VHOST)}

    cluster = LocalCluster(tmp_path / "cluster", 3, of_node=lambda name: where(name))
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
    cluster.rabbit.create_vhost(VHOST)  # until now the nodes have tried in vain
    with Client(cluster.url, ensure_token(cluster)) as client:
        seed_cluster(client, HOSTS)
    for node in cluster.nodes.values():
        until(lambda url=node.url: serves(url))  # type: ignore[misc]


def serves(url: str) -> bool:
    return '"AMQP API","ok":true' in httpx.get(f"{url}/readyz?verbose=true").text


def consumers(cluster: LocalCluster) -> int:
    with Outside(cluster.rabbit.vhost_url(VHOST), "") as client:
        return int(client.channel.queue_declare(topology.REQUESTS, passive=True).method.consumer_count)


def test_a_killed_node_loses_no_answer_and_no_event(cluster: LocalCluster) -> None:
    assert consumers(cluster) == 3
    url = cluster.rabbit.vhost_url(VHOST)
    with Outside(url, cluster.token) as outside, Outside(url, "") as listener:
        listener.listen(topology.EVENTS, "vm.#")
        [offering] = outside.ask("instance_offering.list", {"q": ["name=small"]}).body["items"]
        asked = {
            outside.publish(
                "vm.create",
                {"name": f"vm-{n}", "instance_offering_uuid": offering["uuid"]},
                message_id=f"create-{n}",
            ): f"vm-{n}"
            for n in range(VMS)
        }
        told = outside.get(VMS // 3, SECONDS)
        cluster.nodes["node-2"].kill()
        ended: dict[str, Message] = {}
        while len(ended) < VMS:
            ended |= {m.correlation_id: m for m in told if m.type == "job.ended" and m.correlation_id}
            assert not [m for m in told if m.type not in ("job.accepted", "job.ended")], told
            told = outside.get(1, SECONDS) if len(ended) < VMS else []
        assert {c: m.body["result"]["name"] for c, m in ended.items()} == asked
        assert {m.body["state"] for m in ended.values()} == {"Succeeded"}
        found = outside.ask("vm.list", {"fields": ["uuid", "name"], "limit": 1000}).body["items"]
        assert sorted(vm["name"] for vm in found) == sorted(asked.values())
        hear_all(listener, {vm["uuid"] for vm in found})
        until(lambda: outside.depth(topology.REQUESTS) == 0)
        assert outside.depth(topology.DEAD) == 0


def hear_all(listener: Outside, vms: set[str]) -> None:
    """Every event of every VM up to its last one, at least once: revisions without a gap."""
    revisions: dict[str, set[int]] = {vm: set() for vm in vms}
    created: set[str] = set()
    while created != vms or any(max(r) != len(r) for r in revisions.values()):
        [event] = listener.get(1, SECONDS)
        revisions[event.body["resource_uuid"]].add(event.body["revision"])
        if event.key == "vm.created":
            created.add(event.body["resource_uuid"])
