"""Bad requests around the body: sockets, headers, queries, names, numbers and times; all on both databases."""

from __future__ import annotations

import json
import socket
import unicodedata
from typing import Any

import pytest

from tests.e2e.document import NOWHERE
from tests.e2e.scene import Scene, Snapshot, differences
from tests.e2e.test_bad_input import nothing_done, refused, unchanged

__all__ = ["nothing_done", "unchanged"]
PATIENCE = 20.0
TIMES = ["2026-01-01T00:00:00", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
         "9999-12-31T23:59:59-23:59",
         "0001-01-01T00:00:00+23:59", "10000-01-01T00:00:00Z", "2026-02-30T00:00:00Z",
         "2026-01-01T00:00:00+99:99",
         "2026-01-01", "now", "1e9", "2026-01-01T24:00:00Z", "-0001-01-01T00:00:00Z"]  # fmt: skip
NUMBERS = ["9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e400", "1e-400", "NaN", "Infinity",
           "0x10", "1_000", "٣", "1.5", "", " 1", "9" * 400, "2147483648", "-2147483649"]  # fmt: skip
UUIDS = [
    NOWHERE,
    NOWHERE.upper(),
    NOWHERE[:-1],
    "0",
    "{" + NOWHERE + "}",
    NOWHERE.replace("-", ""),
    "x" * 400,
]
TEXTS = ["", "%", "_", "\\", "%\\", "'", "' or '1'='1", '"', "\U0010ffff", "\ud7ff\ue000", "\u202eabc",
         "a" * 5000, ";--",
         "null", "%" * 2000, "{}", "$$", ":c0", "%(x)s", "?"]  # fmt: skip
OPERATORS = [
    "=",
    "!=",
    ">",
    ">=",
    "<",
    "<=",
    "~=",
    "!~=",
    "?=",
    "!?=",
    "==",
    "<>",
    "=~",
    "",
    "===",
    "!",
    "?",
    "~",
    "=>",
]


def talk(scene: Scene, *parts: bytes, end: bool = True) -> bytes:
    """What the server answers to these bytes until it closes the connection."""
    found = b""
    with socket.create_connection(("127.0.0.1", scene.cloud.turn().node.api.port), PATIENCE) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                found += part
        except OSError:  # it closed the connection as soon as it had seen enough
            pass
    return found


def head(scene: Scene, *lines: str, method: str = "POST", path: str = "/v1/zones") -> bytes:
    first = [
        f"{method} {path} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {scene.cloud.token}",
        "connection: close",
    ]
    return "\r\n".join([*first, *lines, "", ""]).encode("latin-1")


def healthy(scene: Scene) -> None:
    assert scene.cloud.http.get("/readyz").status_code == 200
    assert scene.cloud.list("zones", "name=zone-1")


def test_half_a_request_and_nonsense_on_the_socket_change_nothing(scene: Scene, unchanged: Snapshot) -> None:
    body = b'{"name": "half"}'
    json_type = "content-type: application/json"
    chunked = head(scene, json_type, "transfer-encoding: chunked")
    cases = [
        head(scene, json_type, f"content-length: {len(body) + 10}") + body,  # shorter than it says
        head(scene, json_type, "content-length: 3") + body,  # longer than it says
        head(scene, json_type, "content-length: 99999999999999999999999") + body,
        head(scene, json_type, "content-length: 0x10") + body,
        head(scene, json_type, "content-length: +16") + body,
        head(scene, json_type, "content-length: 16", "content-length: 17") + body,
        head(scene, json_type, "content-length: 16", "transfer-encoding: chunked") + body,
        head(scene, json_type, "transfer-encoding: gzip, chunked") + body,
        head(scene, json_type)[:-30],
        chunked + b"10\r\n" + body,  # the last chunk is missing
        chunked + b"-1\r\n" + body + b"\r\n0\r\n\r\n",
        chunked + b"ffffffffffffffffff\r\n" + body + b"\r\n0\r\n\r\n",
        b"POST /v1/zones HTTP/9.9\r\n\r\n",
        b"\x00" * 1000,
        b"\r\n" * 1000,
        b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v1/zones HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \x00\x01\r\n\r\n",
        b"GET /v1/zones HTTP/1.1\r\nhost: x\r\nx-y: a\rb\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        head(scene, "upgrade: websocket", "connection: upgrade", method="GET"),
        head(scene, *[f"x-{n}: {'y' * 100}" for n in range(2000)], method="GET"),
    ]
    for case in cases:
        answer = talk(scene, case)
        statuses = [line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]
        assert all(s[:1] == b"4" for s in statuses) or b"upgrade" in case, (case[:200], answer[:300])
        healthy(scene)


def test_headers_with_nonsense_are_refused_or_mean_nothing(scene: Scene, unchanged: Snapshot) -> None:
    http = scene.cloud.http
    for name, value in [
        ("authorization", "Bearer"), ("authorization", "Bearer \u00ff"), ("authorization", "Basic YTpi"),
        ("authorization", "Bearer " + "x" * 5000), ("authorization", "Bearer a b"), ("authorization", "\x7f"),
        ("idempotency-key", ""), ("idempotency-key", "x" * 256), ("idempotency-key", "\u00e9"),
        ("idempotency-key", "a\tb"),
    ]:  # fmt: skip
        refused(http.post("/v1/zones", json={"name": "new"}, headers={name: value.encode("latin-1")}))
    for name, value in [
        ("prefer", "wait=-1"), ("prefer", "wait=1e9"), ("prefer", "wait=" + "9" * 300),
        ("if-none-match", '"' * 999),
        ("if-none-match", "\u00ff"), ("traceparent", "00-" + "f" * 99), ("x-request-id", "a b\u00ff"),
        ("accept", "\u00ff"),
        ("x-request-id", "x" * 5000), ("range", "bytes=0-"), ("content-length", "0"),
        ("expect", "100-continue"),
    ]:  # fmt: skip
        answer = http.get(f"/v1/zones/{scene.uuids['zone']}", headers={name: value.encode("latin-1")})
        assert answer.status_code == 200, (name, value, answer.text)


def test_an_if_match_that_names_no_version_stops_the_change(scene: Scene, unchanged: Snapshot) -> None:
    path = f"/v1/zones/{scene.uuids['zone']}"
    for tag in ('"x"', "W/", ",", '"' + "x" * 3000 + '"', "\u00ff", '""', "null"):
        for method, body in (("PATCH", {"description": "new"}), ("DELETE", None)):
            headers = {"if-match": tag.encode("latin-1"), "prefer": "wait=10"}
            answer = scene.cloud.http.request(method, path, json=body, headers=headers)
            refused(answer, code="api.precondition-failed", status=412)


def test_an_idempotency_key_serves_one_request_only(scene: Scene) -> None:
    http, headers = scene.cloud.http, {"idempotency-key": "k' or 1=1", "prefer": "wait=10"}
    first = http.post("/v1/zones", json={"name": "once"}, headers=headers)
    assert first.status_code == 201
    before = scene.snapshot()
    assert (
        http.post("/v1/zones", json={"name": "once"}, headers=headers).json()["uuid"] == first.json()["uuid"]
    )
    for method, path, body in (
        ("POST", "/v1/zones", {"name": "twice"}),
        ("POST", "/v1/zones", {"name": "once", "description": "x"}),
        ("PATCH", f"/v1/zones/{first.json()['uuid']}", {"name": "once"}),
        ("DELETE", f"/v1/zones/{first.json()['uuid']}", None),
    ):
        answer = http.request(method, path, json=body, headers=headers)
        refused(answer, code="core.idempotency-key-reused", status=422)
    assert not differences(before, scene.snapshot())


@pytest.mark.slow
def test_every_field_takes_every_operator_and_value_or_says_why_not(
    scene: Scene, unchanged: Snapshot
) -> None:
    for plural, fields in inventories(scene).items():
        asked = [f"{f}{o}{v}" for f in fields for o in OPERATORS for v in ("", "x", "1", "true", NOWHERE)]
        asked += [f"{f}{o}{v}" for f in fields for o in ("=", ">=", "?=") for v in (*TIMES, *NUMBERS, *UUIDS)]
        asked += [f"{f}{o}{v}" for f in fields for o in ("=", "<", "~=", "!~=", "?=") for v in TEXTS]
        step = max(2, len(asked) // 150)
        for condition in asked[len(scene.cloud.nodes) % step :: step]:  # others on another kind of cloud
            listed(scene, plural, q=condition)


def test_lists_refuse_nonsense_in_their_parameters(scene: Scene, unchanged: Snapshot) -> None:
    nonsense: list[dict[str, Any]] = [
        {"q": "colour=red"}, {"q": "zone.cluster.host.vm.name=x"}, {"q": ".=x"},
        {"q": "a" * 60_000 + "=1"}, {"q": ""},
        {"q": ".".join(["clusters.zone"] * 500) + ".name=x"}, {"q": ["name=x"] * 33},
        {"q": ["name=x"] * 150}, {"q": "="},
        {"q": "name"}, {"q": "name?=" + ",".join(["x"] * 2000)}, {"sort": "colour"}, {"sort": "-"},
        {"sort": "--name"},
        {"sort": ","}, {"sort": "name; drop table zone"}, {"fields": "colour"}, {"fields": "__class__"},
        {"fields": ","}, {"fields": "name," * 3000}, {"limit": "0"}, {"limit": "-1"}, {"limit": "1001"},
        {"limit": "1.0"},
        {"limit": "9" * 30}, {"limit": "٣"}, {"limit": "1e2"}, {"limit": ""}, {"count": "maybe"},
        {"cursor": "x"},
        {"cursor": "é"}, {"cursor": "W10"}, {"cursor": "bnVsbA"}, {"cursor": "A" * 60_000},
        {"limit": ["1", "2"]},
        {"cursor": "WyJ4IixbXV0"}, {"q": "created_at>0001-01-01T00:00:00+14:00"}, {"q": "zone.name"},
        {"wait": "1"},
    ]  # fmt: skip
    for plural in inventories(scene):
        for params in nonsense:
            if params not in ({"q": ["name=x"] * 33}, {"fields": ","}):
                listed(scene, plural, **params)
    for params in nonsense:
        if "created_at" not in str(params):
            refused(scene.cloud.http.get("/v1/zones", params=params), status=400)


def test_ten_thousand_conditions_are_refused(scene: Scene, unchanged: Snapshot) -> None:
    answer = talk(scene, head(scene, method="GET", path="/v1/zones?" + "q=a=b&" * 9_000))
    assert answer.startswith(b"HTTP/1.1 400") and b"query parameters" in answer
    assert talk(scene, head(scene, method="GET", path="/v1/zones?" + "q=a=b&" * 20_000)).startswith(
        b"HTTP/1.1 4"
    )


def test_a_cursor_of_another_query_is_refused(scene: Scene) -> None:
    for number in range(3):
        scene.cloud.create("zones", name=f"more-{number}")
    http = scene.cloud.http
    cursor = http.get("/v1/zones", params={"limit": 1}).json()["next_cursor"]
    for plural, params in (
        ("zones", {"sort": "name"}), ("zones", {"q": "name=x"}), ("clusters", {}), ("accounts", {}),
        ("jobs", {}),
    ):  # fmt: skip
        refused(
            http.get(f"/v1/{plural}", params={"cursor": cursor} | params), code="query.bad-cursor", status=400
        )
    for damaged in (cursor[:-2], cursor + "AAAA", cursor[::-1], "A" + cursor[1:]):
        refused(http.get("/v1/zones", params={"cursor": damaged}), code="query.bad-cursor", status=400)


def test_an_id_of_an_event_that_is_none_is_refused(scene: Scene, unchanged: Snapshot) -> None:
    http = scene.cloud.http
    for bad in ("x", "-1", "1-", "1-2-3", "9" * 40 + "-1", "1.5-1", "٣-1", "0x1-1", "1-1' or 1=1", "NaN-0"):
        answer = http.get("/v1/events", params={"after": bad})
        refused(answer, code="api.invalid-parameter", status=400)
        refused(http.get("/v1/events", headers={"last-event-id": bad.encode()}), code="api.invalid-parameter")
    refused(http.get("/v1/events", params={"resource": "../../x"}), code="api.invalid-parameter", status=400)


@pytest.mark.parametrize(
    "position", ["9223372036854775807-9223372036854775807", "9223372036854775808-1", "1-99999999999999999999"]
)
def test_an_event_id_of_the_far_future_is_reset_or_refused(scene: Scene, position: str) -> None:
    """Nothing of the stream's database work may fail on a number that no column holds."""
    answer = talk_until(scene, head(scene, method="GET", path=f"/v1/events?after={position}"), b"\n\n")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200")), answer
    assert b" 400 " in answer[:20] or b"event: reset" in answer, answer


NAMES = [
    "\u202eright to left", "🐉" * 60, "\U0010fffd", "e\u0301", "\u00e9", "\ufb01", "ß", "İ", "a\u200db",
    "\u00a0x", "x\u3000",
    "name with 'quotes' and \"more\"", "<script>alert(1)</script>", "{{7*7}}", "%s%n", "../../etc",
    "true", "x" * 255, "🐉" * 255,
]  # fmt: skip


def test_names_of_any_writing_are_kept_as_they_are_sent(scene: Scene) -> None:
    for name in NAMES:
        made = scene.cloud.create("policies", name=name, statements=STATEMENTS, description=name)
        found = scene.cloud.get("policies", made["uuid"])
        assert found["name"] == name and found["description"] == name
        equals = "?=" if name[0] in "<>=~" else "="  # which together would be another language's operator
        assert [p["uuid"] for p in scene.cloud.list("policies", f"name{equals}{name}")] == [made["uuid"]], (
            name
        )
    zones = [
        scene.cloud.create("zones", name=unicodedata.normalize(form, "café"))["uuid"]
        for form in ("NFC", "NFD")
    ]
    assert len(set(zones)) == 2


STATEMENTS = [{"effect": "Allow", "actions": ["zone.read"], "resources": ["*"]}]


def test_names_that_nobody_can_see_or_say_are_refused(scene: Scene, unchanged: Snapshot) -> None:
    bad = ["", " ", "\t", "a\nb", "\x7f", "\u0000", "x" * 256, "🐉" * 256, "a\u0085b", "a\u2028", "\u2029b"]
    for name in bad:
        answer = scene.cloud.request("POST", "/zones", {"name": name})
        refused(answer, status=400)


def test_times_out_of_range_are_refused(scene: Scene, unchanged: Snapshot) -> None:
    far = {"9999-12-31T23:59:59Z"}
    for at in TIMES:
        answer = scene.cloud.http.post("/v1/api-keys", json={"name": "k", "expires_at": at, "colour": 1})
        refused(answer, status=400)
        if at not in far:
            refused(scene.cloud.http.post("/v1/api-keys", json={"name": "k", "expires_at": at}), status=400)


def test_a_key_that_ends_with_the_calendar_can_be_made_and_used(scene: Scene) -> None:
    made = scene.cloud.call("POST", "/api-keys", {"name": "k", "expires_at": "9999-12-31T23:59:59Z"})
    assert scene.cloud.as_(made["token"]).list("zones")


def test_a_name_that_must_be_unique_is_refused_the_second_time(scene: Scene, nothing_done: Snapshot) -> None:
    for plural, fields in (
        ("accounts", {"name": "account-1", "password": "correct horse battery"}),
        ("users", {"name": "user-1"}),
    ):
        problem = refused(scene.cloud.request("POST", f"/{plural}", fields), status=409)
        assert problem["code"].endswith("name-taken"), problem
        assert fields["name"] in problem["detail"], problem


def inventories(scene: Scene) -> dict[str, list[str]]:
    """The fields of each list's items, by its path."""
    found: dict[str, list[str]] = {}
    paths = scene.document.raw["paths"]
    for path, methods in paths.items():
        if path + "/{uuid}" in paths and "get" in methods and path != "/v1/events":
            page = scene.document.plain(
                methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            )
            item = scene.document.plain(page["properties"]["items"]["items"])
            found[path.removeprefix("/v1/")] = list(item["properties"])
    return found


def listed(scene: Scene, plural: str, **params: Any) -> None:
    """The list answers a page, or a problem that says what it knows instead."""
    answer = scene.cloud.http.get(f"/v1/{plural}", params=params)
    if answer.status_code != 200:
        refused(answer, status=400)
        return
    assert set(answer.json()) <= {"items", "next_cursor", "total"}, json.dumps(params)


def talk_until(scene: Scene, request: bytes, mark: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", scene.cloud.turn().node.api.port), PATIENCE) as connection:
        connection.sendall(request)
        found = b""
        while found.count(mark) < 3 and (part := connection.recv(65536)):
            found += part
    return found
