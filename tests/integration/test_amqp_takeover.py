"""A node dies between two of the promises of the AMQP API; the next one keeps them. Real processes, killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.api.amqp import topology
from mgmtnode.testing.servers import RabbitServer
from tests.e2e.dev_node import DevNode
from tests.integration.outside import Message, Outside, until

pytestmark = pytest.mark.integration

ALARM = "{resource_limit, memory, node()}"
SLOW = 20_000  # milliseconds a simulated host takes for a command


@pytest.fixture
def node(rabbit_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DevNode]:
    monkeypatch.setenv("MGMTNODE_API_AMQP_URL", rabbit_url)
    node = DevNode(tmp_path / "data", hosts=2)
    node.start()
    try:
        yield node
    finally:
        if node.process is not None and node.process.poll() is None:
            node.kill()


@pytest.fixture
def outside(node: DevNode, rabbit_url: str) -> Iterator[Outside]:
    client = Outside(rabbit_url, node.token)
    yield client
    client.close()


def jobs(node: DevNode, api: str) -> list[dict[str, Any]]:
    with node.http() as http:
        return list(http.get("/jobs", params={"q": f"api={api}"}).json()["items"])


def by_type(messages: list[Message]) -> dict[str, Message]:
    return {message.type: message for message in messages}


def test_the_end_of_a_job_is_told_though_the_node_that_accepted_it_is_dead(
    node: DevNode, outside: Outside
) -> None:
    with node.http() as http:
        config = http.get("/global-configs", params={"q": "name=simulator.delay_ms"}).json()["items"][0][
            "uuid"
        ]
    outside.do("global-config.update", {"uuid": config, "value": SLOW})
    offering = outside.ask("instance_offering.list", {"q": ["name=small"]}).body["items"][0]["uuid"]
    outside.publish("vm.create", {"name": "web", "instance_offering_uuid": offering})
    [accepted] = outside.get()
    assert accepted.type == "job.accepted"
    until(lambda: jobs(node, "vm.create")[0]["state"] == "Running")
    node.kill()
    node.start()
    outside.publish("global-config.update", {"uuid": config, "value": 0})
    told = [m for m in outside.get(3) if m.body["uuid"] == accepted.body["uuid"]]
    assert [m.type for m in told] == ["job.ended"]
    assert (told[0].body["state"], told[0].body["result"]["state"]) == ("Succeeded", "Running")
    assert told[0].correlation_id == accepted.correlation_id


@pytest.mark.parametrize("message_id", ["key-1", None], ids=["with a message_id", "without"])
def test_a_request_that_is_redelivered_after_its_commit_is_the_same_job(
    node: DevNode, outside: Outside, rabbit_server: RabbitServer, message_id: str | None
) -> None:
    """The broker takes no answers, so that the node dies with the job committed and the request not acknowledged."""
    assert node.stop() == 0
    sent = outside.publish("zone.create", {"name": "once"}, message_id=message_id)
    until(lambda: outside.depth(topology.REQUESTS) == 1)
    rabbit_server.eval(f"rabbit_alarm:set_alarm({{{ALARM}, []}}).")
    try:
        node.start()
        until(lambda: [job["state"] for job in jobs(node, "zone.create")][:1] == ["Succeeded"])
        node.kill()
    finally:
        rabbit_server.eval(f"rabbit_alarm:clear_alarm({ALARM}).")
    node.start()
    told: list[Message] = []
    while "job.ended" not in by_type(told):
        told += outside.get()
    # What the dead node had written to its socket may have arrived as well.
    assert {m.correlation_id for m in told} == {sent}
    assert len({m.body["uuid"] for m in told}) == 1
    assert any(m.headers.get("idempotent-replay") == "true" for m in told)
    with node.http() as http:
        assert [z["name"] for z in http.get("/zones", params={"q": "name=once"}).json()["items"]] == ["once"]
    until(lambda: outside.depth(topology.REQUESTS) == 0)


def test_a_node_that_stops_leaves_what_it_has_not_begun_to_the_next(node: DevNode, outside: Outside) -> None:
    for n in range(200):
        outside.publish("zone.create", {"name": f"z{n}"}, message_id=f"key-{n}")
    outside.get(20)
    assert node.stop() == 0
    node.start()
    with node.http() as http:

        def count() -> int:
            found = http.get("/zones", params={"q": "name~=z%", "limit": 1, "count": "true"})
            return int(found.json()["total"])

        until(lambda: count() == 200)
    assert outside.depth(topology.DEAD) == 0
