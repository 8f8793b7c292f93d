"""A stranger who has read the OpenAPI document, knows uuids that exist, and sends whatever comes to mind."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from mgmtnode.testing.cloud import Cloud
from tests.e2e.document import NOWHERE, Document, Json, Operation

LEFT_OUT = {"global-config.update", "simulator.fault"}  # they may rightly make the node refuse work
LOCKS_OUT = (
    "session.delete",
    "api_key.delete",
    "account.delete",
    "account.disable",
    "account.change-password",
)
TEXTS = [
    "", " ", "a", "x" * 255, "x" * 256, "x" * 5000, "\0", "\ud800", "\u202e", "🐉" * 100, "null", "%", "_",
    "'", '"', "\\",
    "1", "-1", "1e9", "true", "*", "../..", "{{7*7}}", "%s", "$1", "\u0085", "\u2028", "\x7f", "é",
    "e\u0301", NOWHERE, NOWHERE[:-1],
    "0.0.0.0", "255.255.255.255", "10.0.0.1", "0.0.0.0/0", "10.0.0.0/31", "10.0.0.0/32", "::1",
    "ff:ff:ff:ff:ff:ff",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00",
]  # fmt: skip
NUMBERS: list[Any] = [
    0, 1, -1, 2, 7, 31, 32, 255, 2**31 - 1, 2**31, 2**32, 2**50, 2**60, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64,
    10**40, 0.0, -0.0, 1.0, 1.5, 1e308, 5e-324,
]  # fmt: skip
ODD: list[Any] = [None, True, False, [], {}, [[]], [None], {"": None}, {"uuid": NOWHERE}, [NOWHERE] * 3]
QUERIES = [
    "name~=%",
    "uuid=" + NOWHERE,
    "name=null",
    "created_at>2026-01-01T00:00:00Z",
    "x=1",
    "name?=a,b",
    "state!=x",
]


class Fuzzer:
    """``run`` sends requests for some seconds and raises AssertionError, with the request, for the first bad answer."""

    def __init__(self, cloud: Cloud, document: Document, *, seed: int, secrets: tuple[str, ...]) -> None:
        self._cloud, self._document, self._secrets = cloud, document, secrets
        self._random = random.Random(seed)
        self._known: dict[str, list[str]] = {}
        self._validators: dict[tuple[str, str], Draft202012Validator] = {}
        self.statuses: Counter[int] = Counter()
        self._operations = [o for o in document.operations if o.id not in LEFT_OUT]

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.statuses[401]:
            if sum(self.statuses.values()) % 100 == 0:
                self._look_around()
            operation = self._random.choice(self._operations)
            if operation.id not in LOCKS_OUT or self._chance(
                0.05
            ):  # else it would soon saw off its own branch
                self._send(operation)

    def _look_around(self) -> None:
        """Learns the uuids that exist."""
        for operation in self._operations:
            if operation.id.endswith(".list"):
                answer = self._cloud.http.get(operation.path, params={"limit": 50})
                if answer.status_code == 200:
                    plural = operation.path.removeprefix("/v1/")
                    self._known[plural] = [
                        item["uuid"] for item in answer.json()["items"] if item.get("uuid")
                    ]

    def _send(self, operation: Operation) -> None:
        path = operation.at(**{name: self._in_path(operation, name) for name in operation.path_fields})
        params = {n: self._parameter(n, s) for n, s in operation.parameters.items() if self._chance(0.3)}
        content, headers = b"", {}
        if operation.body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(self._body(operation)).encode()
            if self._chance(0.03):
                content = self._mangled(content)
        if self._chance(0.1):
            headers["prefer"] = "wait=2"
        if self._chance(0.05):
            headers["idempotency-key"] = str(self._random.randint(0, 9))
        answer = self._cloud.http.request(
            operation.method, path, params=params, content=content or None, headers=headers
        )
        self.statuses[answer.status_code] += 1
        self._check(operation, answer)

    def _check(self, operation: Operation, answer: httpx.Response) -> None:
        what = f"{operation.method} {answer.request.url} {answer.request.content[:2000]!r} -> {answer.status_code}"
        assert answer.status_code < 500, f"{what} {answer.text[:2000]}"
        for secret in self._secrets:
            assert secret not in answer.text, f"{what} tells a secret"
        if answer.status_code == 304:
            return
        kind = answer.headers["content-type"]
        assert kind == ("application/json" if answer.status_code < 400 else "application/problem+json"), what
        errors = list(self._validator(operation, answer.status_code).iter_errors(answer.json()))
        assert not errors, f"{what}: {errors[0].message[:500]} at {errors[0].json_path}"

    def _validator(self, operation: Operation, status: int) -> Draft202012Validator:
        key = (operation.id, str(status))
        if key not in self._validators:
            raw = self._document.raw
            responses = raw["paths"][operation.path][operation.method.lower()]["responses"]
            found = self._document.plain(responses.get(str(status), responses["default"]))
            assert str(status) in responses or status >= 400, f"{operation.id} does not document {status}"
            (media,) = found["content"].values()
            self._validators[key] = Draft202012Validator(media["schema"] | {"components": raw["components"]})
        return self._validators[key]

    def _body(self, operation: Operation) -> Json:
        assert operation.body is not None
        needed = operation.body.get("required", ())
        body = self._document.sample(operation)
        for name, schema in self._document.fields(operation).items():
            if name in needed or self._chance(0.5):
                body[name] = self._value(name, schema)
        if self._chance(0.02):
            body[self._random.choice(TEXTS)] = self._odd()
        return body

    def _value(self, name: str, schema: Json) -> Any:
        schema = self._document.plain(schema)
        if self._chance(0.07):
            return self._odd()
        if "anyOf" in schema:
            return self._value(name, self._random.choice(schema["anyOf"]))
        for key in ("enum", "const"):
            if key in schema:
                return self._random.choice(schema["enum"]) if key == "enum" else schema["const"]
        kind = schema.get("type", "object")
        kind = kind if isinstance(kind, str) else self._random.choice(kind)
        return self._of_kind(kind, name, schema)

    def _of_kind(self, kind: str, name: str, schema: Json) -> Any:
        if kind == "array":
            return [
                self._value(name, schema.get("items", {}))
                for _ in range(self._random.choice((0, 1, 1, 2, 5)))
            ]
        if kind == "object":
            return {
                n: self._value(n, s) for n, s in schema.get("properties", {}).items() if self._chance(0.8)
            }
        if kind in ("integer", "number"):
            low, high = schema.get("minimum", -(2**40)), schema.get("maximum", 2**40)
            return self._random.choice((low, high, self._random.randint(int(low), int(high)), 1, 4, 1 << 30))
        if kind == "boolean":
            return self._chance(0.5)
        return self._text(name, schema) if kind == "string" else None

    def _text(self, name: str, schema: Json) -> str:
        if schema.get("format") == "uuid" or name.endswith(("_uuid", "_uuids")):
            return self._uuid(name.removesuffix("s").removesuffix("_uuid").replace("_", "-"))
        if name in ("cidr", "ip", "start_ip", "end_ip", "gateway", "management_ip", "ip_address"):
            address = f"10.{self._random.randint(0, 2)}.0.{self._random.randint(0, 255)}"
            return f"{address}/{self._random.randint(8, 32)}" if name == "cidr" else address
        return self._random.choice(
            ("web", "db", "sample", "simulator", "a long enough password", f"n{self._random.random()}")
        )

    def _uuid(self, kind: str) -> str:
        """Mostly of something of the right kind, sometimes of something else, or of nothing."""
        right = [u for plural, uuids in self._known.items() if plural.startswith(kind) for u in uuids]
        every = [u for uuids in self._known.values() for u in uuids]
        pick = self._random.random()
        if pick < 0.8 and right:
            return self._random.choice(right)
        return self._random.choice(every) if pick < 0.95 and every else NOWHERE

    def _in_path(self, operation: Operation, name: str) -> str:
        if self._chance(0.03):
            return self._random.choice(
                ("%00", "..%2F..", "x" * 300, "%F0%9F%90%89", "null", "%ff", NOWHERE.upper())
            )
        plural = operation.path.removeprefix("/v1/").partition("/")[0]
        return self._uuid(plural if name == "uuid" and plural != "resources" else "")

    def _parameter(self, name: str, schema: Json) -> Any:
        if name == "dry_run":
            return "true"
        if name == "q":
            return [self._random.choice(QUERIES) for _ in range(self._random.randint(0, 3))]
        if name == "limit":
            return self._random.choice((1, 2, 1000, 0, "x"))
        value = self._value(name, schema)
        odd = value is None or isinstance(value, dict | list | bool)
        return (str(value).lower() if odd else str(value)).encode("utf-8", "replace").decode()

    def _odd(self) -> Any:
        return self._random.choice((*TEXTS, *NUMBERS, *ODD))

    def _mangled(self, content: bytes) -> bytes:
        at = self._random.randrange(len(content))
        return content[:at] + self._random.randbytes(self._random.randint(0, 3)) + content[at + 1 :]

    def _chance(self, share: float) -> bool:
        return self._random.random() < share
