"""The AMQP API as a client sees it, over a real broker: jobs and their ends, reads, refusals, events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.testing.cloud import Cloud
from tests.integration.outside import Outside, serving

pytestmark = pytest.mark.integration


@pytest.fixture
def cloud(rabbit_url: str, database_url: str, tmp_path: Path) -> Iterator[Cloud]:
    with serving(rabbit_url, tmp_path / "node", database_url) as cloud:
        yield cloud


@pytest.fixture
def outside(cloud: Cloud, rabbit_url: str) -> Iterator[Outside]:
    client = Outside(rabbit_url, cloud.token)
    yield client
    client.close()


def zones(cloud: Cloud) -> list[str]:
    return [zone["name"] for zone in cloud.list("zones", sort="name")]


def test_a_job_is_answered_with_the_job_and_then_its_end(cloud: Cloud, outside: Outside) -> None:
    accepted, ended = outside.do("zone.create", {"name": "west"}, headers={"x-request-id": "r-1"})
    assert (accepted.status, accepted.body["api"], accepted.body["state"]) == (202, "zone.create", "Pending")
    assert accepted.headers["x-request-id"] == "r-1"
    assert (ended.status, ended.body["uuid"], ended.body["state"]) == (
        200,
        accepted.body["uuid"],
        "Succeeded",
    )
    assert ended.body["result"]["name"] == "west"
    assert (accepted.message_id, ended.message_id) == (
        f"{ended.body['uuid']}.accepted",
        f"{ended.body['uuid']}.ended",
    )
    assert cloud.get("zones", accepted.body["resource_uuid"])["name"] == "west"


def test_a_job_that_fails_ends_with_its_problem(cloud: Cloud, outside: Outside) -> None:
    _, ended = outside.do("vm.create", {"name": "homeless", "cpu": 1, "memory": 1 << 30})
    assert (ended.body["state"], ended.status) == ("Failed", 409)
    assert ended.body["error"]["category"] == "NO_CAPACITY"


def test_reads_and_calls_are_answered_at_once(cloud: Cloud, outside: Outside) -> None:
    uuids = [cloud.create("zones", name=name)["uuid"] for name in ("b", "a")]
    wanted = {"q": ["name!=x"], "sort": "name"}
    page = outside.ask("zone.list", wanted | {"limit": 1, "count": True})
    assert (page.type, page.status, page.body["total"]) == ("result", 200, 2)
    assert [zone["name"] for zone in page.body["items"]] == ["a"]
    rest = outside.ask("zone.list", wanted | {"cursor": page.body["next_cursor"]})
    assert [zone["uuid"] for zone in rest.body["items"]] == uuids[:1]
    assert outside.ask("zone.get", {"uuid": uuids[1]}).body["name"] == "a"
    assert outside.ask("session.whoami").body["account_name"] == "admin"


def test_the_job_reads_and_the_cancel_of_rest_are_there(cloud: Cloud, outside: Outside) -> None:
    _, ended = outside.do("zone.create", {"name": "west"})
    uuid = ended.body["uuid"]
    assert outside.ask("job.get", {"uuid": uuid}).body["state"] == "Succeeded"
    assert outside.ask("job.list", {"q": [f"uuid={uuid}"]}).body["items"][0]["uuid"] == uuid
    assert outside.ask("job.cancel", {"uuid": uuid}).body["state"] == "Succeeded"


def test_the_same_message_id_is_the_same_job_over_both_roads(cloud: Cloud, outside: Outside) -> None:
    first, _ = outside.do("zone.create", {"name": "west"}, message_id="key-1")
    again, ended = outside.do("zone.create", {"name": "west"}, message_id="key-1")
    assert again.body["uuid"] == ended.body["uuid"] == first.body["uuid"]
    assert "idempotent-replay" not in first.headers and again.headers["idempotent-replay"] == "true"
    by_rest = cloud.http.post("/v1/zones", json={"name": "west"}, headers={"idempotency-key": "key-1"})
    assert by_rest.json()["uuid"] == first.body["uuid"]
    other = outside.ask("zone.create", {"name": "east"}, message_id="key-1")
    assert (other.status, other.body["code"]) == (422, "core.idempotency-key-reused")
    assert zones(cloud) == ["west"]


def test_without_a_message_id_what_is_said_twice_is_done_twice(cloud: Cloud, outside: Outside) -> None:
    for _ in range(2):
        outside.do("zone.create", {"name": "west"}, correlation_id="always the same")
    outside.do("zone.create", {"name": "west"}, correlation_id=None)
    assert zones(cloud) == ["west"] * 3


def test_a_dry_run_plans_and_does_nothing(cloud: Cloud, outside: Outside) -> None:
    plan = outside.ask("zone.create", {"name": "west"}, headers={"dry-run": True})
    assert (plan.type, plan.body["api"]) == ("result", "zone.create")
    assert zones(cloud) == []


def test_if_match_refuses_what_changed(cloud: Cloud, outside: Outside) -> None:
    uuid = cloud.create("zones", name="west")["uuid"]
    tag = cloud.http.get(f"/v1/zones/{uuid}").headers["etag"]
    outside.do("zone.update", {"uuid": uuid, "description": "x"}, headers={"if-match": tag})
    late = outside.ask("zone.update", {"uuid": uuid, "description": "y"}, headers={"if-match": tag})
    assert (late.status, late.body["code"]) == (412, "api.precondition-failed")


WRONG: list[tuple[str, Any, dict[str, Any], str]] = [
    ("zone.create", {"name": "x"}, {"headers": {"authorization": None}}, "core.unauthenticated"),
    ("zone.create", {"name": "x"}, {"headers": {"authorization": "Bearer wrong"}}, "core.unauthenticated"),
    ("zone.create", {"name": "x"}, {"headers": {"authorization": 7}}, "api.invalid-header"),
    ("zone.create", {"name": "x"}, {"headers": {"dry-run": "maybe"}}, "api.invalid-header"),
    ("zone.create", {"name": "x"}, {"message_id": "kéy"}, "api.invalid-header"),
    ("zone.create", {"name": "x"}, {"content_type": "text/plain"}, "api.wrong-content-type"),
    ("zone.create", {"name": "x"}, {"content_type": None}, "api.wrong-content-type"),
    ("zone.create", {"name": "x"}, {"content_encoding": "gzip"}, "api.wrong-content-type"),
    ("zone.create", b"{", {}, "api.malformed-json"),
    ("zone.create", b"[1]", {}, "api.not-an-object"),
    ("zone.create", b"\xff", {}, "api.bad-text"),
    ("zone.create", b"[" * 5000, {}, "api.too-deep"),
    ("zone.create", b" " * (1 << 20), {}, "api.too-large"),
    ("zone.create", {"name": 7}, {}, "api.invalid-field"),
    ("zone.create", {"nam": "x"}, {}, "api.invalid-field"),
    ("zone.update", {"description": "x"}, {}, "api.invalid-field"),
    ("zone.update", {"uuid": ["x"]}, {}, "api.invalid-field"),
    ("zone.list", {"limit": 10_000}, {}, "api.invalid-field"),
    ("zone.get", {}, {}, "api.invalid-field"),
    ("zone.get", {"uuid": "x"}, {}, "core.not-found"),
    ("zone.crate", {"name": "x"}, {}, "api.unknown-api"),
    ("", {"name": "x"}, {}, "api.unknown-api"),
]


def test_what_is_wrong_is_answered_with_the_problem_of_rest(cloud: Cloud, outside: Outside) -> None:
    for key, body, properties, code in WRONG:
        answer = outside.ask(key, body, **properties)
        assert (answer.type, answer.content_type) == ("problem", "application/problem+json")
        assert answer.body["code"] == code, (key, body, answer)
        assert answer.body["status"] == answer.status
    assert zones(cloud) == [] and outside.depth("mgmtnode.api.dead") == 0


def test_a_tenant_is_told_of_its_own_alone(cloud: Cloud, outside: Outside, rabbit_url: str) -> None:
    uuid = cloud.create("zones", name="west")["uuid"]
    tenant = Outside(rabbit_url, cloud.tenant().token)
    assert tenant.ask("zone.get", {"uuid": uuid}).body["code"] == "core.not-found"
    assert tenant.ask("zone.list").body["items"] == []
    assert tenant.ask("zone.create", {"name": "x"}).body["code"] == "core.denied"
    tenant.close()


def test_ends_go_to_every_reply_queue_that_asked(cloud: Cloud, outside: Outside, rabbit_url: str) -> None:
    """With direct reply-to as well, where the broker keeps no queue."""
    other = Outside(rabbit_url, cloud.token)
    for client in (outside, other):
        client.publish("zone.create", {"name": "west"}, message_id="shared")
    told = [{m.type: m for m in client.get(2)} for client in (outside, other)]
    assert len({m["job.ended"].body["uuid"] for m in told}) == 1
    direct = Outside(rabbit_url, cloud.token)
    direct.channel.basic_consume("amq.rabbitmq.reply-to", direct._take, auto_ack=True)
    direct.replies = "amq.rabbitmq.reply-to"
    assert direct.do("zone.create", {"name": "east"})[1].body["state"] == "Succeeded"
    for client in (other, direct):
        client.close()


def test_a_reply_queue_that_is_gone_costs_nothing(cloud: Cloud, outside: Outside) -> None:
    for _ in range(5):
        outside.publish("zone.create", {"name": "unheard"}, reply_to="no-such-queue")
    assert outside.ask("session.whoami").status == 200
    cloud.until(lambda: zones(cloud) == ["unheard"] * 5)
    cloud.until(lambda: not owed(cloud))
    assert outside.depth("mgmtnode.api.dead") == 0 and outside.depth("mgmtnode.api.requests") == 0


def owed(cloud: Cloud) -> list[Any]:
    from mgmtnode.api.amqp import repository

    db = cloud.node.db
    return cloud.thread.run(db.read(lambda tx: repository.owed(tx, 100)))


def test_requests_that_nobody_can_be_told_of_are_buried(cloud: Cloud, outside: Outside) -> None:
    for reply_to in (None, "mgmtnode.api.requests", "mgmtnode.api.dead", "line\nbreak"):
        outside.publish("zone.create", {"name": "x"}, reply_to=reply_to)
    cloud.until(lambda: outside.depth("mgmtnode.api.dead") == 4)
    assert outside.ask("session.whoami").status == 200
    assert zones(cloud) == []
    numbers = cloud.http.get("/metrics").text
    assert 'mgmtnode_amqp_requests_total{api="none",status="0"} 4.0' in numbers
    assert 'mgmtnode_amqp_requests_total{api="session.whoami",status="200"} 1.0' in numbers


def test_events_are_what_the_stream_of_rest_has(cloud: Cloud, outside: Outside) -> None:
    outside.listen("mgmtnode.events", "zone.*")
    zone = cloud.create("zones", name="west")
    cloud.update("zones", zone["uuid"], description="x")
    heard = outside.get(2)
    assert [m.key for m in heard] == ["zone.created", "zone.changed"]
    with cloud.http.stream("GET", "/v1/events", params={"after": "0-0", "types": "zone.*"}) as stream:
        lines = (line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: "))
        assert [m.raw.decode() for m in heard] == [next(lines), next(lines)]
    assert [m.message_id for m in heard] == [m.body["id"] for m in heard]
    assert heard[0].headers["resource_uuid"] == zone["uuid"] and heard[0].headers["revision"] == 1


def test_a_hundred_jobs_of_five_clients_are_each_told_to_who_asked(
    cloud: Cloud, outside: Outside, rabbit_url: str
) -> None:
    clients = [outside, *(Outside(rabbit_url, cloud.token) for _ in range(4))]
    asked = [
        {client.publish("zone.create", {"name": f"z{n}"}): f"z{n}" for n in range(20)} for client in clients
    ]
    for client, mine in zip(clients, asked, strict=True):
        answers = client.get(40)
        ended = {m.correlation_id: m.body["result"]["name"] for m in answers if m.type == "job.ended"}
        assert ended == mine
        client.close()
    cloud.until(lambda: not owed(cloud))
