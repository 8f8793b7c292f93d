"""Changes that are answered at once: rehearsed, and done once for a key, like those that are jobs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from mgmtnode.testing.cloud import Cloud
from tests.e2e.scene import Scene, differences

PASSWORD, OTHER = "correct horse battery", "another horse battery"
FAULT = {"action": "start", "kind": "fail", "times": 1}
ACCOUNT = ("/accounts", {"name": "account-2", "password": PASSWORD})
USER = ("/users", {"name": "user-2", "password": PASSWORD})
KEY = ("/api-keys", {"name": "key-2"})
LOGIN = ("/sessions", {"account": "account-1", "password": PASSWORD})
ACCOUNT_PASSWORD = ("/accounts/{account}/actions/change-password", {"password": OTHER})
USER_PASSWORD = ("/users/{user}/actions/change-password", {"password": OTHER})
GIVE_FAULT = ("/hosts/{host}/actions/simulate-fault", {"fault": FAULT})
CLEAR_FAULTS = ("/hosts/{host}/actions/clear-faults", {})
CALLS: list[tuple[str, dict[str, Any]]] = [
    ACCOUNT, USER, KEY, LOGIN, ACCOUNT_PASSWORD, USER_PASSWORD, GIVE_FAULT, CLEAR_FAULTS,
]  # fmt: skip
AS_GOOD_TWICE = (
    "/v1/jobs/{uuid}/actions/cancel",
    "/v1/management-nodes/{name}/actions/drain",
    "/v1/management-nodes/{name}/actions/evict",
)

Send = Callable[..., httpx.Response]


@pytest.fixture
def send(scene: Scene) -> Send:
    def send(call: tuple[str, dict[str, Any]], key: str = "", **params: str) -> httpx.Response:
        path, body = call
        headers = {"idempotency-key": key} if key else {}
        path = path.format(**scene.uuids)
        return scene.cloud.http.post(f"/v1{path}", json=body, params=params, headers=headers)

    return send


def faults(scene: Scene) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = scene.cloud.call(
        "GET", f"/hosts/{scene.uuids['host']}/simulated-faults"
    )
    return found["faults"]


def test_all_changes_that_are_no_jobs_take_a_key_and_can_be_tried_dry(scene: Scene) -> None:
    paths = scene.document.raw["paths"]
    at_once = {
        (operation.method, operation.path): {p["$ref"].rpartition("/")[2] for p in parameters if "$ref" in p}
        for operation in scene.document.mutations
        for parameters in [paths[operation.path][operation.method.lower()].get("parameters", [])]
        if not any(p.get("$ref", "").endswith("/Prefer") for p in parameters)
    }
    for path in AS_GOOD_TWICE:
        assert "IdempotencyKey" not in at_once.pop(("POST", path))
    assert len(at_once) == len(CALLS) + 1  # and the end of a session
    assert all(names >= {"DryRun", "IdempotencyKey"} for names in at_once.values()), at_once


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(scene: Scene, send: Send) -> None:
    before, faults_before = scene.snapshot(), faults(scene)
    for call in CALLS:
        answer = send(call, dry_run="true")
        assert answer.status_code == 200, (call, answer.text)
        plan = answer.json()
        assert plan["api"] and plan["resource_type"] and plan["steps"], call
        assert "token" not in str(plan["context"]), call
    assert not differences(before, scene.snapshot())
    assert faults(scene) == faults_before
    assert scene.cloud.login("account-1", PASSWORD).call("GET", "/whoami")


def test_a_dry_run_is_refused_as_the_change_would_be(scene: Scene, send: Send) -> None:
    for call, code in (
        (("/accounts", ACCOUNT[1] | {"name": "account-1"}), "core.name-taken"),
        (("/accounts", ACCOUNT[1] | {"password": "x"}), "account.password-weak"),
        (("/sessions", LOGIN[1] | {"password": "wrong"}), "session.login-failed"),
    ):
        dry, real = send(call, dry_run="true"), send(call)
        assert dry.json()["code"] == real.json()["code"] == code


def test_a_repeated_request_is_answered_again_and_done_once(scene: Scene, send: Send) -> None:
    for call in (ACCOUNT, USER, GIVE_FAULT):
        first, again = send(call, f"key of {call[0]}"), send(call, f"key of {call[0]}")
        assert first.status_code == again.status_code < 300, (call, again.text)
        assert first.json() == again.json()
        assert "idempotent-replay" not in first.headers and again.headers["idempotent-replay"] == "true"
    assert len(faults(scene)) == 1
    for wanted in (("accounts", "name=account-2"), ("users", "name=user-2")):
        assert len(scene.cloud.list(*wanted)) == 1


def test_a_repeated_request_leaves_one_job_that_has_ended_and_no_password(scene: Scene, send: Send) -> None:
    for _ in range(2):
        made = send(ACCOUNT, "k").json()["uuid"]
    job = scene.cloud.list("jobs", f"resource_uuid={made}")
    assert [(j["api"], j["state"]) for j in job] == [("account.create", "Succeeded")]
    assert not [row for rows in scene.snapshot().values() for row in rows if PASSWORD in row]


@pytest.mark.parametrize("call", [ACCOUNT, USER])
def test_a_key_stands_for_one_request_with_its_password(send: Send, call: tuple[str, dict[str, Any]]) -> None:
    path, body = call
    assert send(call, "k").status_code == 201
    for changed in ({"name": "account-3"}, {"password": OTHER}):
        answer = send((path, body | changed), "k")
        assert (answer.status_code, answer.json()["code"]) == (422, "core.idempotency-key-reused")


def test_keys_are_shared_with_jobs(scene: Scene, send: Send) -> None:
    assert send(ACCOUNT, "k").status_code == 201
    answer = send(("/zones", {"name": "west"}), "k")
    assert (answer.status_code, answer.json()["code"]) == (422, "core.idempotency-key-reused")
    assert scene.cloud.http.post(
        "/v1/zones", json={"name": "west"}, headers={"idempotency-key": "z"}
    ).is_success
    assert send(ACCOUNT, "z").json()["code"] == "core.idempotency-key-reused"


def test_a_repeated_login_leaves_one_session_whose_newest_token_is_good(scene: Scene, send: Send) -> None:
    first, again = send(LOGIN, "k").json(), send(LOGIN, "k").json()
    assert first["uuid"] == again["uuid"] and first["token"] != again["token"]
    owner = scene.cloud.as_(again["token"])
    assert [s["uuid"] for s in owner.list("sessions")] == [first["uuid"]]
    assert scene.cloud.as_(first["token"]).request("GET", "/whoami").status_code == 401


def test_a_repeated_logout_of_another_session_is_no_error(scene: Scene, send: Send) -> None:
    owner = scene.cloud.as_(send(LOGIN).json()["token"])
    other = send(LOGIN).json()["uuid"]
    for headers, status in (({}, 200), ({}, 200), ({"idempotency-key": "another"}, 404)):
        headers = {"idempotency-key": "k"} | headers
        assert owner.http.delete(f"/v1/sessions/{other}", headers=headers).status_code == status


def test_two_requests_with_one_key_at_once_make_one_account(scene: Scene, cloud: Cloud) -> None:
    def post(_: int) -> httpx.Response:
        headers = {"idempotency-key": "k"}
        return cloud.http.post("/v1/accounts", json=ACCOUNT[1], headers=headers)

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(post, range(3)))
    assert {a.status_code for a in answers} == {201} and len({a.json()["uuid"] for a in answers}) == 1
