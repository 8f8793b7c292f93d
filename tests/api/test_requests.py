"""What the gateway says to requests that are wrong, unknown or not allowed; and lists, calls and about."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgmtnode.jobs.job import Statement

UUID = "0190bbbb-0000-7000-8000-000000000001"
JSON = {"content-type": "application/json"}
TEXT, PATCH, ZIPPED = (
    {"content": b"{}", "headers": h}
    for h in (
        {"content-type": "text/plain"},
        {"content-type": "application/merge-patch+json"},
        JSON | {"content-encoding": "gzip"},
    )
)


async def ask(
    world: Any, method: str, url: str, token: str | None = "admin", **options: Any
) -> httpx.Response:
    async with world.client(token) as client:
        answer: httpx.Response = await client.request(method, url, **options)
        return answer


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"nam": "a"}, "api.invalid-field", "there is no field 'nam'; did you mean 'name'?"),
        ({}, "api.invalid-field", "the field 'name' is required"),
        ({"name": 5}, "api.invalid-field", "name: expected str, got int"),
        ({"name": "a\n"}, "api.invalid-field", "name: expected one line of text"),
        (
            {"name": "a", "disks": [{"size": 1}, {"size": "x"}]},
            "api.invalid-field",
            "disks[1].size: expected int",
        ),
        (
            {"name": "a", "disks": [{"size": 1, "knd": 1}]},
            "api.invalid-field",
            "there is no field 'disks[0].knd'",
        ),
        (
            {"name": "a", "zone_uuid": UUID + "\n"},
            "api.invalid-field",
            "zone_uuid: expected a lower-case uuid",
        ),
        (
            {"name": "a", "user_tags": ["x"] * 65},
            "api.invalid-field",
            "user_tags: expected array of length <= 64",
        ),
    ],
)
def test_a_field_that_does_not_fit_is_named(world, run, body: dict, code: str, words: str) -> None:
    answer = run(ask(world, "POST", "/v1/vms", json=body))
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert words in answer.json()["detail"]
    assert not world.jobs.accepted


@pytest.mark.parametrize(
    ("method", "url", "options", "status", "code"),
    [
        ("POST", "/v1/zones", TEXT, 415, "api.wrong-content-type"),
        ("POST", "/v1/zones", {"content": b"{}"}, 415, "api.wrong-content-type"),
        ("POST", "/v1/zones", PATCH, 415, "api.wrong-content-type"),
        ("POST", "/v1/zones", ZIPPED, 415, "api.wrong-content-type"),
        ("POST", "/v1/zones", {"content": b"{", "headers": JSON}, 400, "api.malformed-json"),
        ("POST", "/v1/zones", {"content": b"x" * (2 << 20), "headers": JSON}, 413, "api.too-large"),
        ("POST", "/v1/zones?dryrun=true", {"json": {"name": "a"}}, 400, "api.unknown-parameter"),
        ("POST", "/v1/zones?dry_run=perhaps", {"json": {"name": "a"}}, 400, "api.invalid-parameter"),
        ("GET", "/v1/zones?limit=0", {}, 400, "api.invalid-parameter"),
        ("GET", "/v1/zones?limit=1001", {}, 400, "api.invalid-parameter"),
        ("GET", "/v1/zones?limit=%D9%A1", {}, 400, "api.invalid-parameter"),
        ("GET", "/v1/zones?sort=a&sort=b", {}, 400, "api.invalid-parameter"),
        ("GET", "/v1/zones?q=%00", {}, 400, "api.bad-text"),
        ("GET", "/v1/zones?q=%ff", {}, 400, "api.bad-text"),
        ("GET", "/v1/zones?" + "q=a&" * 300, {}, 400, "api.invalid-parameter"),
        ("GET", "/v1/zones/%00", {}, 400, "api.bad-text"),
        ("GET", "/v1/zones/%ff", {}, 400, "api.bad-text"),
        ("GET", f"/v1/zones/{UUID}?fields=a", {}, 400, "api.unknown-parameter"),
        ("GET", f"/v1/zones/{UUID}", {}, 404, "core.not-found"),
        ("GET", "/v1/zones/" + "x" * 5000, {}, 404, "core.not-found"),
        ("GET", "/v1/nothing", {}, 404, "api.unknown-path"),
        ("GET", "/v2", {}, 404, "api.unknown-path"),
        ("GET", "/", {}, 404, "api.unknown-path"),
        ("GET", "/v1/zones/", {}, 404, "api.unknown-path"),
        ("GET", "/v1//zones", {}, 404, "api.unknown-path"),
        ("PUT", "/v1/zones", {}, 405, "api.wrong-method"),
        ("TRACE", "/v1", {}, 405, "api.wrong-method"),
        ("DELETE", f"/v1/zones/{UUID}?force=maybe", {}, 400, "api.invalid-field"),
        ("DELETE", f"/v1/zones/{UUID}?forse=true", {}, 400, "api.unknown-parameter"),
        ("DELETE", f"/v1/zones/{UUID}", {"json": {"force": True}}, 400, "api.invalid-field"),
        ("PATCH", f"/v1/zones/{UUID}", {"json": {"uuid": UUID[:-1] + "2"}}, 400, "api.invalid-field"),
        ("POST", f"/v1/vms/{UUID}/actions/stop", {"json": {"grace_seconds": "5"}}, 400, "api.invalid-field"),
        ("POST", f"/v1/jobs/{UUID}/actions/cancel", {"json": {"x": 1}}, 400, "api.invalid-field"),
        ("POST", f"/v1/jobs/{UUID}/actions/cancel", {}, 404, "core.not-found"),
    ],
)  # fmt: skip
def test_a_wrong_request_gets_its_own_status_and_code(world, run, method, url, options, status, code) -> None:
    answer = run(ask(world, method, url, **options))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"/docs/errors#{code}"
    assert not world.jobs.accepted


def test_a_wrong_method_says_which_there_are(world, run) -> None:
    wrong, options = run(ask(world, "PUT", "/v1/zones")), run(ask(world, "OPTIONS", "/v1/zones", None))
    assert wrong.headers["allow"] == options.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert options.status_code == 204


def test_head_has_the_headers_of_get_and_no_body(world, run) -> None:
    world.add_zone()
    got, head = run(ask(world, "GET", "/v1/zones")), run(ask(world, "HEAD", "/v1/zones"))
    assert head.content == b"" and head.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize(
    "header", [None, "", "Basic abc", "Bearer", "Bearer nobody", "Bearer " + "x" * 5000, "Bearer \xe4"]
)
def test_without_a_valid_token_everything_but_the_public_is_401(world, run, header) -> None:
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for method, url in (
        ("GET", "/v1"),
        ("GET", "/v1/zones"),
        ("POST", "/v1/zones"),
        ("GET", f"/v1/jobs/{UUID}"),
    ):
        answer = run(ask(world, method, url, None, headers=headers))
        assert (answer.status_code, answer.json()["code"]) == (401, "core.unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for url in ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/errors"):
        assert run(ask(world, "GET", url, None, headers=headers)).status_code == 200


def test_a_login_needs_no_token_and_ignores_a_stale_one(world, run) -> None:
    for token in (None, "stale"):
        answer = run(ask(world, "POST", "/v1/sessions", token, json={"account": "a", "password": "secret"}))
        assert (answer.status_code, answer.json()) == (201, {"token": "tenant"})
    wrong = run(ask(world, "POST", "/v1/sessions", None, json={"account": "a", "password": "x"}))
    assert wrong.status_code == 401


def test_an_api_of_the_operator_is_403_for_a_tenant(world, run) -> None:
    answer = run(ask(world, "POST", "/v1/zones", "tenant", json={"name": "a"}))
    assert (answer.status_code, answer.json()["code"]) == (403, "core.denied")
    assert run(ask(world, "POST", "/v1/vms", "tenant", json={"name": "a"})).status_code == 202


def test_a_user_may_do_what_a_policy_allows_and_none_denies(world, run) -> None:
    world.add_vm(1)
    world.add_vm(2)
    other = UUID[:-1] + "2"
    world.identity.user(
        "user",
        Statement(effect="Allow", actions=["vm.*"]),
        Statement(effect="Deny", actions=["vm.stop"], resources=[other]),
    )
    world.identity.user("nothing")

    def status(token: str, method: str, url: str, **options: Any) -> int:
        return run(ask(world, method, url, token, **options)).status_code

    assert status("user", "GET", "/v1/vms") == 200
    assert status("user", "POST", "/v1/vms", json={"name": "a"}) == 202
    assert status("user", "POST", f"/v1/vms/{UUID}/actions/stop") == 202
    assert status("user", "POST", f"/v1/vms/{other}/actions/stop") == 403
    assert status("user", "GET", "/v1/zones") == 403
    assert status("user", "GET", "/v1/jobs") == 403
    assert status("nothing", "GET", "/v1/vms") == 403


def test_a_list_passes_its_parameters_to_the_query_engine(world, run) -> None:
    world.add_zone()
    url = "/v1/zones?q=name=west&q=state!%3DX&sort=-name&limit=7&cursor=c&fields=uuid,name&count=true"
    run(ask(world, "GET", url))
    kind, conditions, options = world.query.asked[0]
    assert (kind, conditions) == ("zone", ["name=west", "state!=X"])
    caller = options.pop("caller")
    assert caller.admin
    assert options == {"sort": "-name", "limit": 7, "cursor": "c", "fields": ("uuid", "name"), "count": True}


def test_the_fields_of_a_read_call_come_from_path_and_query(world, run) -> None:
    world.add_vm()
    url = f"/v1/vms/{UUID.upper()}/candidates?limit=3&hosts=a&hosts=b&strict=true"
    answer = run(ask(world, "GET", url, "tenant"))
    assert answer.json() == ["host-1"]
    msg, caller = world.called[0]
    assert (msg.uuid, msg.limit, msg.hosts, msg.strict) == (UUID, 3, ["a", "b"], True)
    assert caller.account_name == "acme"


def test_a_request_id_that_is_fit_for_logs_is_kept_and_another_replaced(world, run) -> None:
    kept = run(ask(world, "GET", "/livez", headers={"x-request-id": "abc-1"}))
    made = run(ask(world, "GET", "/livez", headers={"x-request-id": 'x"\t{}'}))
    assert kept.headers["x-request-id"] == "abc-1"
    assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])


def test_a_request_without_a_trace_begins_one_with_the_id_it_is_given(world, run) -> None:
    answer = run(ask(world, "GET", "/livez"))
    version, trace, span, flags = answer.headers["traceparent"].split("-")
    assert trace == answer.headers["x-request-id"]
    assert (version, len(span), flags) == ("00", 16, "00")


def test_the_trace_of_the_client_is_kept_whatever_it_calls_its_request(world, run) -> None:
    trace, headers = "4bf92f3577b34da6a3ce929d0e0e4736", {"x-request-id": "r-1"}
    headers["traceparent"] = f"00-{trace}-00f067aa0ba902b7-01"
    answer = run(ask(world, "GET", "/livez", headers=headers))
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["traceparent"].split("-")[1] == trace


def test_a_request_id_that_could_be_a_trace_is_the_trace(world, run) -> None:
    answer = run(ask(world, "GET", "/livez", headers={"x-request-id": "a" * 32}))
    assert answer.headers["traceparent"].split("-")[1] == "a" * 32


def test_about_names_version_and_resources(world, run) -> None:
    body = run(ask(world, "GET", "/v1")).json()
    assert {"type": "zone", "path": "/v1/zones"} in body["resources"]
    assert "vm.create" in body["apis"]


FUZZ = st.text(max_size=12) | st.sampled_from(["..", "%", "%2e%2e", "a" * 300, "\u202e", "null", "0", "-1"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"]),
    path=st.lists(
        st.sampled_from(["v1", "zones", "vms", "jobs", UUID, "actions", "stop"]) | FUZZ, max_size=5
    ),
    query=st.lists(
        st.tuples(st.sampled_from(["q", "limit", "dry_run", "wait", "force"]) | FUZZ, FUZZ), max_size=3
    ),
    body=st.none() | st.binary(max_size=30) | FUZZ.map(lambda t: t.encode("utf-8", "surrogatepass")),
    kind=st.sampled_from(["application/json", "text/plain"]),
)
def test_nothing_from_outside_is_a_fault_of_ours(world, run, method, path, query, body, kind) -> None:
    url = "http://node/" + "/".join(quote(p.encode("utf-8", "replace"), safe="%") for p in path)
    params = [
        (k.encode("utf-8", "replace").decode(), v.encode("utf-8", "replace").decode()) for k, v in query
    ]
    headers = {"content-type": kind, "prefer": "wait=0"}
    answer = run(ask(world, method, url, params=params, content=body, headers=headers))
    assert answer.status_code < 500
