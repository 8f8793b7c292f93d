"""Bad input to every API in the OpenAPI document: refused with a clear problem, and nothing changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.document import NOWHERE, Operation
from tests.e2e.scene import WORK, Scene, Snapshot, differences

MIB = 1 << 20
BAD_BODIES: list[tuple[str, bytes, str]] = [
    ("nothing but a brace", b"{", "api.malformed-json"),
    ("text after the object", b"{} {}", "api.malformed-json"),
    ("a trailing comma", b'{"name": "a",}', "api.malformed-json"),
    ("NaN", b'{"name": NaN}', "api.malformed-json"),
    ("Infinity", b'{"name": -Infinity}', "api.malformed-json"),
    ("a float without end", b'{"name": 1e999}', "api.malformed-json"),
    ("an integer of 5,000 digits", b'{"name": ' + b"9" * 5000 + b"}", "api.malformed-json"),
    ("an integer beyond 64 bits", b'{"name": 18446744073709551616}', "api.invalid-field"),
    ("a key twice", b'{"name": "a", "name": "b"}', "api.duplicate-key"),
    ("a key twice, below", b'{"x": [{"name": "a", "name": "b"}]}', "api.duplicate-key"),
    ("an escaped NUL", b'{"name": "a\\u0000b"}', "api.bad-text"),
    ("a raw NUL", b'{"name": "a\x00b"}', "api.bad-text"),
    ("a NUL in a key", b'{"na\\u0000me": "a"}', "api.bad-text"),
    ("half a surrogate pair", b'{"name": "\\ud800"}', "api.bad-text"),
    ("a surrogate pair the wrong way", b'{"name": "\\udc00\\ud800"}', "api.bad-text"),
    ("bytes that are not UTF-8", b'{"name": "\xff\xfe"}', "api.bad-text"),
    ("UTF-16", '{"name": "a"}'.encode("utf-16"), "api.bad-text"),
    ("a surrogate as UTF-8", b'{"name": "\xed\xa0\x80"}', "api.bad-text"),
    ("10,000 arrays", b'{"name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "api.too-deep"),
    ("10,000 objects", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "api.too-deep"),
    ("more than 1 MiB", b'{"name": "' + b"x" * MIB + b'"}', "api.too-large"),
    ("an array", b"[]", "api.not-an-object"),
    ("a string", b'"name"', "api.not-an-object"),
    ("null", b"null", "api.not-an-object"),
]
STATUS = {"api.too-large": 413}
BAD_UUIDS = [
    "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "%2E%2E%2F", "%00", "a%00b", "%ff%fe", "%ed%a0%80", "'%20OR%201=1--",
    "%25", "*", "null", "{uuid}", NOWHERE[:-1], NOWHERE + "0", NOWHERE.replace("-", ""), "x" * 300, "%F0%9F%90%89",
    "%E2%80%AE" + NOWHERE, NOWHERE + "%0A", "%20" + NOWHERE, "%7B" + NOWHERE + "%7D", "-1", "0x7f", "%0d%0aX:%201",
]  # fmt: skip


def send(scene: Scene, operation: Operation, body: bytes | None = None, **options: Any) -> httpx.Response:
    """The raw answer, waited for."""
    headers = {"prefer": "wait=30"} | options.pop("headers", {})
    if body is not None:
        headers.setdefault("content-type", "application/json")
    path = options.pop("path", operation.at())
    return scene.cloud.http.request(operation.method, path, content=body, headers=headers, **options)


def refused(response: httpx.Response, *, code: str = "", status: int = 0) -> dict[str, Any]:
    """The problem, after checks that it is a good one."""
    what = f"{response.request.method} {response.request.url} {response.request.content[:200]!r}"
    assert 400 <= response.status_code < 500, f"{what}: {response.status_code} {response.text[:500]}"
    assert response.headers["content-type"] == "application/problem+json", what
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code, what
    assert len(problem["detail"]) > 8 and len(problem["detail"]) < 4000, f"{what}: {problem}"
    assert "Traceback" not in response.text and "sqlalchemy" not in response.text, what
    if code:
        assert problem["code"] == code, f"{what}: {problem}"
    if status:
        assert response.status_code == status, f"{what}: {problem}"
    return problem


@pytest.fixture
def unchanged(scene: Scene) -> Iterator[Snapshot]:
    """Fails a test that changed anything that is stored; not even a job may be left."""
    before = scene.snapshot()
    yield before
    assert not differences(before, scene.snapshot())


@pytest.fixture
def nothing_done(scene: Scene) -> Iterator[Snapshot]:
    """As ``unchanged``, but a job may have been accepted and failed."""
    before = scene.snapshot(*WORK)
    yield before
    assert not differences(before, scene.snapshot(*WORK))


def test_what_is_not_a_json_object_is_refused_by_every_api_with_a_body(
    scene: Scene, unchanged: Snapshot
) -> None:
    assert len(scene.document.with_body) > 15
    for operation in scene.document.with_body:
        for name, body, code in BAD_BODIES:
            problem = refused(send(scene, operation, body), code=code, status=STATUS.get(code, 400))
            place = problem.get("details", {})
            assert place or "body" in problem["detail"] or "JSON" in problem["detail"], (name, problem)


def test_a_field_of_the_wrong_type_or_out_of_bounds_is_refused_by_its_name(
    scene: Scene, unchanged: Snapshot
) -> None:
    tried = 0
    for operation in scene.document.with_body:
        for name, schema in scene.document.fields(operation).items():
            for value in scene.document.misfits(schema):
                body = scene.document.sample(operation, scene.uuids) | {name: value}
                problem = refused(send(scene, operation, encode(body)), code="api.invalid-field", status=400)
                assert name in problem["detail"], (operation.id, problem)
                tried += 1
    assert tried > 200


def test_a_field_or_parameter_that_does_not_exist_is_refused_by_its_name(
    scene: Scene, unchanged: Snapshot
) -> None:
    for operation in scene.document.with_body:
        body = scene.document.sample(operation, scene.uuids) | {"colour\u202e": 1}
        problem = refused(send(scene, operation, encode(body)), code="api.invalid-field", status=400)
        assert "colour" in problem["detail"], problem
    for operation in scene.document.operations:
        body = encode(scene.document.sample(operation, scene.uuids)) if operation.body else None
        answer = send(scene, operation, body, params={"colour": "red"})
        problem = refused(answer, code="api.unknown-parameter", status=400)
        assert "colour" in problem["detail"]


def test_a_required_field_that_is_missing_is_named(scene: Scene, unchanged: Snapshot) -> None:
    for operation in scene.document.with_body:
        sample = scene.document.sample(operation, scene.uuids)
        for name in (operation.body or {}).get("required", ()):
            body = {n: v for n, v in sample.items() if n != name}
            problem = refused(send(scene, operation, encode(body)), code="api.invalid-field", status=400)
            assert name in problem["detail"], (operation.id, problem)


def test_nothing_can_be_done_to_what_does_not_exist(scene: Scene, unchanged: Snapshot) -> None:
    for operation in scene.document.operations:
        if not operation.path_fields:
            continue
        body = scene.document.sample(operation, scene.uuids) if operation.body else None
        answer = send(scene, operation, encode(body) if body is not None else None)
        assert answer.status_code in (400, 403, 404), (operation.id, answer.status_code, answer.text)
        problem = refused(answer)
        if operation.method in ("GET", "DELETE") and not operation.needed:
            assert answer.status_code == 404, (operation.id, problem)


def test_a_reference_to_what_does_not_exist_is_refused_by_its_field(
    scene: Scene, unchanged: Snapshot
) -> None:
    for operation in scene.document.with_body:
        for name in scene.document.fields(operation):
            if not name.endswith("_uuid") or operation.path_fields:
                continue
            body = scene.document.sample(operation, scene.uuids) | {name: NOWHERE}
            answer = send(scene, operation, encode(body))
            problem = refused(answer)
            assert answer.status_code in (400, 404), (operation.id, problem)
            assert NOWHERE in answer.text or name in problem["detail"], (operation.id, problem)


def test_a_reference_to_another_kind_of_resource_is_refused(scene: Scene, unchanged: Snapshot) -> None:
    for operation in scene.document.with_body:
        for name in scene.document.fields(operation):
            if not name.endswith("_uuid") or operation.path_fields:
                continue
            other = "policy" if "policy" not in name else "zone"
            body = scene.document.sample(operation, scene.uuids) | {name: scene.uuids[other]}
            answer = send(scene, operation, encode(body))
            assert answer.status_code in (400, 404), (operation.id, answer.text)


def test_an_id_in_a_path_that_is_no_id_is_refused(scene: Scene, unchanged: Snapshot) -> None:
    for operation in scene.document.operations:
        body = encode(scene.document.sample(operation, scene.uuids)) if operation.body else None
        for name in operation.path_fields:
            for bad in BAD_UUIDS:
                refused(send(scene, operation, body, path=operation.at(**{name: bad})))


def test_a_body_in_another_coding_or_type_is_refused(scene: Scene, unchanged: Snapshot) -> None:
    headers: list[dict[str, str]] = [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": ""},
        {"content-encoding": "gzip"},
        {"content-type": "multipart/form-data; boundary=x"},
    ]
    for operation in scene.document.with_body:
        body = encode(scene.document.sample(operation, scene.uuids))
        for each in headers:
            refused(send(scene, operation, body, headers=each), code="api.wrong-content-type", status=415)


def test_a_deletion_or_a_read_with_a_body_is_refused_or_the_body_is_not_read(
    scene: Scene, unchanged: Snapshot
) -> None:
    for operation in scene.document.operations:
        if operation.method == "DELETE":
            refused(send(scene, operation, b'{"force": true}'), code="api.invalid-field", status=400)


def encode(body: Any) -> bytes:
    return json.dumps(body).encode()
