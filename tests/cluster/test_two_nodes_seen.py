"""Two real nodes on PostgreSQL, RabbitMQ and Redis: what an operator sees of them, and what they know together."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mgmtnode.cli.seed import seed_cluster
from mgmtnode.client import Client
from mgmtnode.testing.local_cluster import LocalCluster
from mgmtnode.testing.local_cluster.operator import ensure_token
from mgmtnode.testing.process import ServerMissing
from mgmtnode.testing.servers import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]
PASSWORD = "correct horse battery"
PATIENCE = 60.0
LOGGED = {"MGMTNODE_LOG_FORMAT": "json", "MGMTNODE_LOG_LEVEL": "debug"}


class Pair:
    def __init__(self, cluster: LocalCluster, token: str) -> None:
        self.cluster = cluster
        headers = {"authorization": f"Bearer {token}", "prefer": "wait=30"}
        self.a, self.b = (
            httpx.Client(base_url=f"{node.url}/v1", headers=headers, timeout=PATIENCE)
            for node in cluster.nodes.values()
        )

    def close(self) -> None:
        self.a.close()
        self.b.close()

    def lines(self, node: httpx.Client, trace: str) -> list[dict[str, Any]]:
        """What a node wrote so far on behalf of a trace."""
        text = self.cluster.directory.log_file(self._name(node)).read_text()
        return [json.loads(line) for line in text.splitlines() if trace in line]

    def metric(self, node: httpx.Client, series: str) -> float:
        text = node.get(self.cluster.nodes[self._name(node)].url + "/metrics").text
        found = [line for line in text.splitlines() if line.startswith(f"mgmtnode_{series}")]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def _name(self, node: httpx.Client) -> str:
        return "node-1" if node is self.a else "node-2"


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module", params=["rabbitmq", "redis"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[Pair]:
    variables = LOGGED | {"MGMTNODE_REDIS_URL": redis_server.url}
    if request.param == "redis":
        variables["MGMTNODE_BUS_URL"] = redis_server.url
    cluster = LocalCluster(tmp_path_factory.mktemp("pair"), 2, variables=variables)
    try:
        cluster.start()
    except ServerMissing as missing:
        pytest.skip(str(missing))
    try:
        token = ensure_token(cluster)
        with Client(cluster.url, token) as client:
            seed_cluster(client, 4)
        pair = Pair(cluster, token)
        try:
            until(lambda: all(pair.metric(node, "slots_owned") > 400 for node in (pair.a, pair.b)))
            yield pair
        finally:
            pair.close()
    finally:
        cluster.stop(at_once=True)
        for server in (cluster.postgres, cluster.rabbit):
            shutil.rmtree(server.directory)  # the logs stay


def messages(lines: list[dict[str, Any]], level: str) -> list[str]:
    return [line["message"] for line in lines if line["level"] == level]


def test_one_id_finds_everything_that_both_nodes_did_for_a_request(pair: Pair) -> None:
    made = pair.a.post("/vms", json={"name": "web-1", "cpu": 1, "memory": 1 << 30})
    assert made.status_code == 201, made.text
    vm = made.json()["uuid"]
    stopped = pair.b.post(f"/vms/{vm}/actions/stop")
    assert stopped.status_code == 200, stopped.text
    trace, job = stopped.headers["x-request-id"], stopped.headers["x-job-uuid"]
    for node, end in ((pair.a, "job vm.stop"), (pair.b, "POST /v1/vms/{uuid}/actions/stop 200")):
        until(lambda n=node, e=end: any(t.startswith(e) for t in messages(pair.lines(n, trace), "DEBUG")))
    on_a, on_b = pair.lines(pair.a, trace), pair.lines(pair.b, trace)
    assert {line["trace"] for line in on_a + on_b} == {trace}
    assert messages(on_b, "INFO") == ["accepted vm.stop"]
    (ended,) = messages(on_a, "INFO")
    assert ended.startswith("vm.stop Succeeded in ")
    assert {line["job"] for line in on_a if "job" in line} == {job}
    assert {line["resource"] for line in on_a if "job" in line} == {vm}
    told = messages(on_a + on_b, "DEBUG")
    for what in ("step ", "call hypervisor.PerformOnHost ", "agent command stop: ok", "transaction write"):
        assert any(text.startswith(what) for text in told), what


def test_nodes_show_their_shares_and_count_their_own_jobs_only(pair: Pair) -> None:
    a, b = pair.a, pair.b
    zone = a.post("/zones", json={"name": "west"}).json()["uuid"]
    assert b.delete(f"/zones/{zone}").status_code == 200
    deleted = 'jobs_ended_total{api="zone.delete",state="Succeeded"}'
    until(lambda: pair.metric(a, deleted) + pair.metric(b, deleted) == 1)
    assert pair.metric(a, deleted) == 1, "who owns the zone ran its job"
    assert pair.metric(b, 'jobs_accepted_total{api="zone.delete"}') == 1
    for node in (a, b):
        assert pair.metric(node, 'nodes{state="UP"}') == 2
        until(lambda node=node: pair.metric(node, "lease_age_seconds") < 5)
        assert pair.metric(node, "transport_healthy") == 1
        assert pair.metric(node, 'transport_batches_total{what="received"}') > 0
        until(lambda node=node: pair.metric(node, "redis_up") == 1)


def settle(pair: Pair, name: str, value: int) -> None:
    """Changes a global config, and returns once both nodes follow it."""
    assert pair.a.patch(f"/global-configs/{name}", json={"value": value}).status_code == 200
    for node in (pair.a, pair.b):
        until(lambda node=node: str(node.get(f"/global-configs/{name}").json()["value"]) == str(value))


def tenant(pair: Pair, name: str) -> tuple[dict[str, str], str]:
    """The headers and the session of a new account."""
    assert pair.a.post("/accounts", json={"name": name, "password": PASSWORD}).status_code == 201
    session = pair.a.post("/sessions", json={"account": name, "password": PASSWORD}).json()
    return {"authorization": f"Bearer {session['token']}"}, session["uuid"]


def test_a_token_that_is_revoked_on_one_node_stops_on_the_other(pair: Pair) -> None:
    settle(pair, "identity.token_cache", 60)
    mine, session = tenant(pair, "revoked")
    assert pair.b.get("/zones", headers=mine).status_code == 200, "b knows the token now, for a minute"
    assert pair.a.delete(f"/sessions/{session}", headers=mine).status_code in (200, 204)
    until(lambda: pair.b.get("/zones", headers=mine).status_code == 401)


def test_a_name_that_is_locked_on_one_node_is_locked_on_both(pair: Pair) -> None:
    settle(pair, "identity.login_attempts", 2)
    settle(pair, "identity.login_lock", 3600)
    tenant(pair, "guessed")
    login = {"account": "guessed", "password": PASSWORD}
    for node in (pair.a, pair.b):
        answer = node.post("/sessions", json=login | {"password": "wrong"})
        assert answer.json()["code"] == "session.login-failed"
    for node in (pair.a, pair.b):
        assert node.post("/sessions", json=login).json()["code"] == "session.login-locked"


def test_a_limit_of_requests_holds_for_both_nodes_together(pair: Pair) -> None:
    mine, _ = tenant(pair, "limited")
    settle(pair, "api.requests_per_second", 3)
    answers = [(pair.a, pair.b)[n % 2].get("/zones", headers=mine) for n in range(60)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].json()["code"] == "api.too-many-requests"
    assert int(refused[0].headers["retry-after"]) >= 1
    settle(pair, "api.requests_per_second", 0)
