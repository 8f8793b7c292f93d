"""Two nodes on one PostgreSQL database: the second is refused, or follows the first, and no job is done twice."""

from __future__ import annotations

import signal
import time
from typing import Any

import httpx
import pytest

from tests.cluster.conftest import Start

pytestmark = pytest.mark.integration

EVICTED = REFUSED = 75


def open_job(http: httpx.Client) -> dict[str, Any]:
    """A job that a slow simulated host keeps busy."""
    configs = http.get("/global-configs", params={"q": "name=simulator.delay_ms"}).json()["items"]
    http.patch(
        f"/global-configs/{configs[0]['uuid']}", json={"value": 20_000}, headers={"prefer": "wait=20"}
    ).raise_for_status()
    offering = http.get("/instance-offerings", params={"q": "name=small"}).json()["items"][0]["uuid"]
    made = http.post("/vms", json={"name": "slow", "instance_offering_uuid": offering})
    assert made.status_code == 202, made.text
    job: dict[str, Any] = made.json()
    until = time.monotonic() + 20
    while job["state"] == "Pending":
        assert time.monotonic() < until, job
        job = http.get(f"/jobs/{job['uuid']}").json()
    assert job["state"] == "Running", job
    return job


@pytest.mark.parametrize(
    ("name", "advice"),
    [("second", "set bus.url on both"), ("first", "give this one another node.name")],
    ids=["of another name", "of the same name"],
)
def test_a_second_node_is_refused_while_the_first_lives_and_harms_nothing(
    start: Start, name: str, advice: str
) -> None:
    first = start("first").ready()
    code, said = start(name).ended()
    assert code == REFUSED and "Traceback" not in said
    assert said.count("\n") <= 2 and "'first' runs" in said and advice in said
    with first.http() as http:
        assert http.post("/zones", json={"name": "later"}, headers={"prefer": "wait=20"}).status_code == 201
    first.signal(signal.SIGTERM)
    assert first.ended()[0] == 0


def test_a_node_that_stopped_is_followed_at_once(start: Start) -> None:
    first = start("first").ready()
    first.signal(signal.SIGTERM)
    assert first.ended()[0] == 0
    with start("second").ready().http() as http:
        assert http.get("/zones").json()["items"][0]["name"] == "dev"


def test_a_killed_node_is_followed_at_once_and_its_jobs_with_it(start: Start) -> None:
    first = start("first").ready()
    with first.http() as http:
        job = open_job(http)
    first.signal(signal.SIGKILL)
    first.popen.wait()
    second = start("second").ready()
    assert "stood still" not in second.said  # which takes longer to see
    with second.http() as http:
        http.post(f"/jobs/{job['uuid']}/actions/cancel").raise_for_status()
        ended = http.get(f"/jobs/{job['uuid']}", params={"wait": 30}).json()
    assert ended["owner_node"] == "second"


def test_a_node_that_stood_still_is_followed_and_stops_when_it_wakes_up(start: Start) -> None:
    first = start("first").ready()
    with first.http() as http:
        job = open_job(http)
        first.signal(signal.SIGSTOP)
        second = start("second").ready()
        first.signal(signal.SIGCONT)
        code, said = first.ended()
    assert code == EVICTED and "was evicted from the cluster" in said
    with second.http() as http:
        ended = http.get(f"/jobs/{job['uuid']}", params={"wait": 1}).json()
        assert ended["owner_node"] == "second"
        assert http.post("/zones", json={"name": "later"}, headers={"prefer": "wait=20"}).status_code == 201


def test_a_node_that_stood_still_follows_itself_after_a_restart_under_its_name(start: Start) -> None:
    first = start("first").ready()
    first.signal(signal.SIGSTOP)
    again = start("first").ready()
    first.signal(signal.SIGCONT)
    assert first.ended()[0] == EVICTED
    with again.http() as http:
        assert http.post("/zones", json={"name": "later"}, headers={"prefer": "wait=20"}).status_code == 201
    again.signal(signal.SIGTERM)
    assert again.ended()[0] == 0
