"""A small management node for the client's tests: real HTTP on a loopback port, resources and jobs in memory.

It speaks the shape of the API faithfully where the client could tell the difference: jobs, long polls,
Prefer, Idempotency-Key, keyset pages, problems, server-sent events with Last-Event-ID.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

TOKEN = "the-token"
Answer = tuple[int, dict[str, str], Any]
STATUS = {"INVALID": 400, "NOT_FOUND": 404, "EXISTS": 409, "STATE": 409, "NO_CAPACITY": 503, "DENIED": 403,
          "UNAVAILABLE": 503, "TIMEOUT": 504, "INTERNAL": 500}  # fmt: skip
STATES = {
    "stop": "Stopped",
    "start": "Running",
    "pause": "Paused",
    "enable": "Enabled",
    "disable": "Disabled",
}


def problem(code: str, category: str, detail: str, **more: Any) -> dict[str, Any]:
    status = STATUS[category]
    return {"type": f"/problems/{code}", "title": code, "status": status, "detail": detail, "code": code,
            "category": category, "resource": None, "details": {}, "retryable": category == "UNAVAILABLE",
            "retry_after": None, "cause": None, **more}  # fmt: skip


class Refusal(Exception):
    def __init__(self, code: str, category: str, detail: str, **more: Any) -> None:
        self.problem = problem(code, category, detail, **more)


@dataclass
class Seen:
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeNode:
    """``held``: jobs stay Running until ``release``. ``script`` answers the next requests instead, in
    order: an answer, or None to cut the connection; only requests that ``scripted`` picks are answered
    from it."""

    held: bool = False
    job_problem: dict[str, Any] | None = None
    job_result: bool = True
    script: list[Answer | None] = field(default_factory=list)
    scripted: Callable[[Seen], bool] = lambda seen: True
    seen: list[Seen] = field(default_factory=list)
    store: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, str, Any]] = field(default_factory=list)
    events_per_connection: int = 1000
    change: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> FakeNode:
        node = self

        class Handler(_Handler):
            fake = node

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def stop(self) -> None:
        self.release()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def add(self, plural: str, **fields: Any) -> dict[str, Any]:
        row = {"uuid": new_uuid(), **fields}
        self.store.setdefault(plural, {})[row["uuid"]] = row
        return row

    def rows(self, plural: str) -> list[dict[str, Any]]:
        return list(self.store.get(plural, {}).values())

    def mutations(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.method != "GET"]

    def release(self) -> None:
        with self.change:
            self.held = False
            for job in self.jobs.values():
                self._end(job)
            self.change.notify_all()

    def emit(self, kind: str, data: Any) -> None:
        with self.change:
            self.events.append((str(len(self.events) + 1), kind, data))
            self.change.notify_all()

    def answer(self, seen: Seen) -> Answer | None:
        self.seen.append(seen)
        if self.script and self.scripted(seen):
            return self.script.pop(0)
        try:
            return self._route(seen)
        except Refusal as exc:
            headers = {"Content-Type": "application/problem+json"}
            return exc.problem["status"], headers, exc.problem

    def _route(self, seen: Seen) -> Answer:
        parts = [unquote(part) for part in seen.path.split("/")[2:]]
        if parts == ["sessions"] and seen.method == "POST":
            return self._login(seen)
        if seen.headers.get("authorization") != f"Bearer {TOKEN}":
            refused = problem(
                "core.unauthenticated", "DENIED", "the request carries no valid token", status=401
            )
            return 401, {"Content-Type": "application/problem+json"}, refused
        if parts[0] == "jobs" and len(parts) > 1:
            return self._job(parts, dict(seen.query))
        if seen.method == "GET":
            return self._list(parts[0], seen) if len(parts) == 1 else self._get(parts)
        return self._mutate(parts, seen)

    def _login(self, seen: Seen) -> Answer:
        if seen.body.get("password") != "password":
            raise Refusal("identity.bad-password", "DENIED", "account or password is wrong")
        return 201, {}, {"uuid": new_uuid(), "token": TOKEN, "account": seen.body["account"]}

    def _get(self, parts: list[str]) -> Answer:
        return 200, {"ETag": 'W/"1"'}, self._row(parts)

    def _row(self, parts: list[str]) -> dict[str, Any]:
        row = self.store.get(parts[0], {}).get(parts[1])
        if row is None:
            raise Refusal("core.not-found", "NOT_FOUND", f"there is no {parts[1]}", resource=parts[1])
        return row

    def _list(self, plural: str, seen: Seen) -> Answer:
        query = dict(seen.query)
        rows = list(self.jobs.values()) if plural == "jobs" else self.rows(plural)
        rows = [row for row in rows if all(_holds(row, q) for name, q in seen.query if name == "q")]
        sort = query.get("sort", "uuid")
        rows.sort(key=lambda row: row.get(sort.lstrip("-")) or "", reverse=sort.startswith("-"))
        first, limit = int(query.get("cursor", 0)), int(query.get("limit", 100))
        page = rows[first : first + limit]
        if "fields" in query:
            page = [{name: row.get(name) for name in query["fields"].split(",")} for row in page]
        more = str(first + limit) if first + limit < len(rows) else None
        total = {"total": len(rows)} if query.get("count") == "true" else {}
        return 200, {}, {"items": page, "next_cursor": more, **total}

    def _job(self, parts: list[str], query: dict[str, str]) -> Answer:
        job = self.jobs.get(parts[1])
        if job is None:
            raise Refusal("core.not-found", "NOT_FOUND", f"there is no job {parts[1]}")
        with self.change:
            if parts[2:] == ["actions", "cancel"]:
                job["cancel_requested"] = True
                job["state"] = "Cancelled"
                self.change.notify_all()
            ended = ("Succeeded", "Failed", "Cancelled")
            self.change.wait_for(lambda: job["state"] in ended, float(query.get("wait", 0)))
        return 200, {}, public(job)

    def _mutate(self, parts: list[str], seen: Seen) -> Answer:
        if dict(seen.query).get("dry_run") == "true":
            return 200, {}, {"plan": {"steps": ["allocate", "start"]}}
        key = seen.headers.get("idempotency-key", "")
        if key not in self.keys:
            self.keys[key] = self._accept(parts, seen)
        job = self.jobs[self.keys[key]]
        prefer = seen.headers.get("prefer", "")
        if prefer.startswith("wait=") and job["state"] != "Running":
            if job["error"]:
                return job["error"]["status"], {"Content-Type": "application/problem+json"}, job["error"]
            return 200, {}, job["result"]
        return 202, {"Location": f"/v1/jobs/{job['uuid']}"}, public(job)

    def _accept(self, parts: list[str], seen: Seen) -> str:
        plural, body = parts[0], seen.body
        if len(parts) > 1 and plural not in ("global-configs", "resources"):
            self._row(parts)
        if plural == "vms" and len(parts) == 1:
            body = {
                **body,
                "state": "Running",
                "nics": [{"ip": "10.0.0.7"}] if body.get("l3_network_uuids") else [],
            }
        verb = (
            parts[3] if len(parts) > 3 else {"POST": "create", "PATCH": "update"}.get(seen.method, "delete")
        )
        if verb == "create" and any(row.get("name") == body.get("name") for row in self.rows(plural)):
            raise Refusal("core.name-taken", "EXISTS", f"the name {body.get('name')!r} is in use")
        target = parts[1] if len(parts) > 1 else new_uuid()
        job: dict[str, Any] = {
               "uuid": new_uuid(), "api": f"{plural.rstrip('s')}.{verb}", "resource_type": plural.rstrip("s"),
               "resource_uuid": target, "state": "Running", "progress": 50, "step": "allocate",
               "steps": [{"name": "allocate", "state": "Running"}, {"name": "start", "state": "Pending"}],
               "accepted_at": "2026-01-01T00:00:00Z", "cancel_requested": False,
               "result": None, "error": None,
               "_work": (plural, verb, target, body)}  # fmt: skip
        self.jobs[job["uuid"]] = job
        if not self.held:
            self._end(job)
        return str(job["uuid"])

    def _end(self, job: dict[str, Any]) -> None:
        if job["state"] != "Running":
            return
        if self.job_problem:
            job.update(state="Failed", error=self.job_problem)
            return
        plural, verb, target, body = job["_work"]
        rows = self.store.setdefault(plural, {})
        if verb in ("delete", "expunge"):
            rows.pop(target)
        else:
            row = rows.setdefault(target, {"uuid": target})
            row.update(body or {})
            row.update({"state": STATES[verb]} if verb in STATES else {})
        job.update(
            state="Succeeded", progress=100, step=None, result=rows.get(target) if self.job_result else None
        )


def public(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if not name.startswith("_")}


def new_uuid() -> str:
    return str(
        uuid.UUID(
            int=(time.time_ns() // 1_000_000) << 80 | uuid.uuid4().int >> 48 & ~(0xF000 << 64) | 7 << 76
        )
    )


def _holds(row: dict[str, Any], condition: str) -> bool:
    for sign in ("!=", "~=", "="):
        if sign in condition:
            name, _, value = condition.partition(sign)
            found = str(row.get(name))
            if sign == "~=":
                return found.startswith(value.rstrip("%"))
            return (found == value) == (sign == "=")
    raise Refusal("query.bad-condition", "INVALID", f"{condition!r} is not a condition")


class _Handler(BaseHTTPRequestHandler):
    fake: FakeNode
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def _serve(self) -> None:
        url = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(
            self.command, url.path, parse_qsl(url.query), headers, json.loads(content) if content else None
        )
        if url.path == "/v1/events" and not self.fake.script:
            self.fake.seen.append(seen)
            return self._events(headers, dict(seen.query).get("types", "*"))
        answer = self.fake.answer(seen)
        if answer is None:
            self.close_connection = True
            return None
        status, more, value = answer
        data = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            **more,
            "Content-Length": str(len(data)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        return None

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

    def _events(self, headers: dict[str, str], types: str) -> None:
        """Ends the stream after ``events_per_connection`` events, in the middle of the next one."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        start = int(headers.get("last-event-id", 0))
        end = min(len(self.fake.events), start + self.fake.events_per_connection)
        self.wfile.write(b": hello\n\nretry: 1\n\n")
        for number, kind, data in self.fake.events[start:end]:
            if not fnmatchcase(kind, types):
                continue
            text = f"id: {number}\nevent: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
            self.wfile.write(text.encode())
        self.wfile.write(b"id: 999\nevent: half\ndata: {")
