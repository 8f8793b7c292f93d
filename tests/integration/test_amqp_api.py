"""The AMQP API as a client sees it, over a real broker: jobs and their ends, reads, refusals, events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mgmtnode.testing.cloud import Cloud
from tests.integration.outside import Outside, serving

pytestmark = pytest.mark.integration

VM = {"name": "web", "cpu": 1, "memory": 1 << 30}


@pytest.fixture
def cloud(rabbit_url: str, database_url: str, tmp_path: Path) -> Iterator[Cloud]:
    with serving(rabbit_url, tmp_path / "node", database_url) as cloud:
        yield cloud


@pytest.fixture
def outside(cloud: Cloud, rabbit_url: str) -> Iterator[Outside]:
    client = Outside(rabbit_url, cloud.token)
    yield client
    client.close()


def test_a_job_is_answered_with_the_job_and_then_its_end(cloud: Cloud, outside: Outside) -> None:
    accepted, ended = outside.do("zone.create", {"name": "west"})
    assert (accepted.status, accepted.body["api"], accepted.body["state"]) == (202, "zone.create", "Pending")
    assert (ended.status, ended.body["uuid"], ended.body["state"]) == (200, accepted.body["uuid"], "Succeeded")
    assert ended.body["result"]["name"] == "west"
    assert ended.message_id == f"{ended.body['uuid']}.ended"
    assert cloud.get("zones", accepted.body["resource_uuid"])["name"] == "west"


def test_reads_and_calls_are_answered_at_once(cloud: Cloud, outside: Outside) -> None:
    zones = [cloud.create("zones", name=name)["uuid"] for name in ("b", "a")]
    page = outside.ask("zone.list", {"q": ["name!=x"], "sort": "name", "limit": 1, "count": True})
    assert (page.type, page.status, page.body["total"]) == ("result", 200, 2)
    assert [zone["name"] for zone in page.body["items"]] == ["a"]
    rest = outside.ask("zone.list", {"sort": "name", "cursor": page.body["next_cursor"]} | {"q": ["name!=x"]})
    assert [zone["uuid"] for zone in rest.body["items"]] == zones[:1]
    assert outside.ask("zone.get", {"uuid": zones[1]}).body["uuid"] == zones[1]
    assert outside.ask("session.whoami").body["account_name"] == "admin"
