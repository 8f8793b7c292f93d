"""Every operation of the API as an exchange: what is asked, and what the answer means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from mgmtnode.client.errors import NotFound, ProblemError, StateConflict, StillRunning, UnexpectedAnswer
from mgmtnode.client.exchange import Caller, Exchange, Pause, Reply, Request
from mgmtnode.client.records import JobState, Record
from mgmtnode.errors import CONFLICT, NOT_FOUND

Progress = Callable[[JobState], None]
Conditions = str | Iterable[str]

LONG_POLL = 30.0
LIVE_POLL = 1.0
HURRIED = 0.2
PAGE = 100


class Api(Protocol):
    """The part of a contract message's declaration that says how it looks over HTTP."""

    @property
    def verb(self) -> str: ...
    @property
    def path(self) -> str: ...


class ApiMessage(Protocol):
    """Any API message of ``mgmtnode.contracts``."""

    @property
    def api(self) -> Api: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How a mutation is sent. ``wait``: seconds the server may hold the answer back for the job to end."""

    dry_run: bool = False
    wait: float = 0.0
    if_match: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a mutation came to so far: a job, or (``job`` is None) the result at once.

    ``plural`` and ``gone`` tell how to show the resource afterwards: by reading it, unless the job removed
    it.
    """

    job: JobState | None
    result: Any = None
    plural: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. ``total`` is set only if it was asked for with ``count``."""

    items: list[Record]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The parameters of a list. ``q``: conditions such as ``host.cluster.zone.name=west``; all must hold."""

    q: Conditions = ()
    sort: str | None = None
    fields: Iterable[str] | None = None
    limit: int | None = None
    page_size: int = PAGE
    count: bool = False
    params: Mapping[str, str] = field(default_factory=dict)

    def query(self, cursor: str | None, seen: int = 0) -> tuple[tuple[str, str], ...]:
        conditions = (self.q,) if isinstance(self.q, str) else tuple(self.q)
        size = self.page_size if self.limit is None else min(self.page_size, self.limit - seen)
        rest = {
            "sort": self.sort,
            "fields": None if self.fields is None else ",".join(self.fields),
            "limit": str(max(1, size)),
            "cursor": cursor,
            "count": "true" if self.count else None,
            **self.params,
        }
        return (*(("q", c) for c in conditions), *((k, v) for k, v in rest.items() if v is not None))


def segment(value: str) -> str:
    """A path segment; an empty one would silently address the whole collection."""
    if not value:
        raise ValueError("a uuid or name is needed, and this one is empty")
    return quote(value, safe="") if value.strip(".") else value.replace(".", "%2E")


class Resources:
    """The operations on one kind of resource, ``plural`` being its word in paths."""

    def __init__(self, caller: Caller, plural: str) -> None:
        self.caller, self.plural = caller, plural
        self.path = f"/v1/{plural}"

    def one(self, key: str) -> str:
        return f"{self.path}/{segment(key)}"

    def create(self, fields: Mapping[str, Any], options: Options) -> Exchange[Accepted]:
        return self._mutate(Request("POST", self.path, body=fields), options)

    def update(self, key: str, fields: Mapping[str, Any], options: Options) -> Exchange[Accepted]:
        return self._mutate(Request("PATCH", self.one(key), body=fields), options)

    def action(self, key: str, name: str, fields: Mapping[str, Any], options: Options) -> Exchange[Accepted]:
        request = Request("POST", f"{self.one(key)}/actions/{segment(name)}", body=fields)
        return self._mutate(request, options, gone=name == "expunge")

    def delete(self, key: str, force: bool, options: Options) -> Exchange[Accepted]:
        query = (("force", "true"),) if force else ()
        return self._mutate(Request("DELETE", self.one(key), query), options, gone=True)

    def get(self, key: str) -> Exchange[Record]:
        reply = yield from self.caller.call(Request("GET", self.one(key)))
        record = _record(reply)
        record.etag = reply.headers.get("etag")
        return record

    def page(self, listing: Listing, cursor: str | None = None, seen: int = 0) -> Exchange[Page]:
        reply = yield from self.caller.call(Request("GET", self.path, listing.query(cursor, seen)))
        body = _record(reply)
        items = [Record(item) for item in body.get("items", [])]
        return Page(items, body.get("next_cursor") or None, body.get("total"))

    def count(self, q: Conditions) -> Exchange[int]:
        page = yield from self.page(Listing(q=q, limit=1, count=True))
        return page.total if page.total is not None else len(page.items)

    def find(self, name: str) -> Exchange[Record]:
        """The one resource called ``name``; an ambiguous name raises with the candidates in ``details``."""
        page = yield from self.page(Listing(q=(f"name={name}",), limit=10))
        if not page.items:
            raise NotFound(NOT_FOUND.error(f"no {self.plural} has the name {name!r}", resource=name).problem)
        if len(page.items) > 1:
            text = f"{len(page.items)} {self.plural} have the name {name!r}; use the uuid of one"
            raise StateConflict(CONFLICT.error(text, resource=name, candidates=page.items).problem)
        return page.items[0]

    def _mutate(self, request: Request, options: Options, gone: bool = False) -> Exchange[Accepted]:
        return mutate(self.caller, request, options, self.plural, gone)


def mutate(
    caller: Caller, request: Request, options: Options, plural: str | None = None, gone: bool = False
) -> Exchange[Accepted]:
    """Sends a mutation. 202 is a job to follow; any other success carries the result itself."""
    headers = dict(request.headers)
    if options.wait:
        headers["Prefer"] = f"wait={options.wait:g}"
    if options.if_match:
        headers["If-Match"] = options.if_match
    if request.method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    query = (*request.query, ("dry_run", "true")) if options.dry_run else request.query
    full = Request(request.method, request.path, query, request.body, headers, options.wait)
    reply = yield from caller.call(full, options.key)
    if reply.status == 202:
        return Accepted(JobState(_record(reply)), plural=plural, gone=gone)
    return Accepted(None, _value(reply.json()), plural, gone)


def submit(caller: Caller, message: ApiMessage, options: Options) -> Exchange[Accepted]:
    """Sends a contract message: the fields its path names go there, the others into the body or the query."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    path = message.api.path
    for name in [n for n in fields if f"{{{n}}}" in path]:
        path = path.replace(f"{{{name}}}", segment(str(fields.pop(name))))
    verb = message.api.verb
    if verb in ("GET", "DELETE"):
        query = tuple((k, _parameter(v)) for k, v in fields.items() if v is not None)
        return mutate(caller, Request(verb, f"/v1{path}", query), options, gone=verb == "DELETE")
    return mutate(caller, Request(verb, f"/v1{path}", body=fields), options)


def _parameter(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class Jobs:
    """The operations on jobs: look, wait, cancel."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def get(self, uuid: str, wait: float = 0.0) -> Exchange[JobState]:
        """``wait``: the server answers when the job ends, or after that many seconds."""
        query = (("wait", f"{wait:g}"),) if wait else ()
        reply = yield from self.caller.call(Request("GET", f"/v1/jobs/{segment(uuid)}", query, hold=wait))
        return JobState(_record(reply))

    def cancel(self, uuid: str) -> Exchange[JobState]:
        """Asks the job to stop and undo; it may still end well, so wait for it."""
        reply = yield from self.caller.call(
            Request("POST", f"/v1/jobs/{segment(uuid)}/actions/cancel", body={})
        )
        body = _record(reply)
        return JobState(body) if "state" in body else (yield from self.get(uuid))

    def wait(self, job: JobState, timeout: float | None, on_progress: Progress | None) -> Exchange[JobState]:
        """The job once it ended, well or not. Long polls; short ones if somebody watches the progress.

        Raises StillRunning when ``timeout`` seconds passed; the job goes on then.
        """
        clock = self.caller.clock
        give_up = None if timeout is None else clock() + timeout
        while True:
            if on_progress:
                on_progress(job)
            if job.ended:
                return job
            left = LONG_POLL if give_up is None else give_up - clock()
            if left <= 0:
                raise StillRunning(job)
            asked_at, hold = clock(), min(left, LIVE_POLL if on_progress else LONG_POLL)
            job = yield from self.get(job["uuid"], hold)
            if not job.ended and clock() - asked_at < min(hold, HURRIED):
                yield Pause(min(hold, HURRIED))  # the answer was not held back: do not spin

    def result(self, accepted: Accepted, job: JobState) -> Exchange[Any]:
        """What the ended ``job`` made: its result, else the resource as it is now; raises its failure."""
        if job.failure:
            raise job.failure
        value = _value(_unwrap(job))
        uuid = job.get("resource_uuid")
        if accepted.gone or accepted.plural is None or not uuid or _describes(value, uuid):
            return value
        try:
            return (yield from Resources(self.caller, accepted.plural).get(uuid))
        except NotFound:
            return value


def _unwrap(job: JobState) -> Any:
    """``{"vm": {…}}`` as ``{…}``: a reply that names its only resource."""
    result = job.get("result")
    if isinstance(result, dict) and len(result) == 1:
        inner = next(iter(result.values()))
        return inner if isinstance(inner, dict) and "uuid" in inner else result
    return result


def _describes(value: Any, uuid: str) -> bool:
    return isinstance(value, dict) and value.get("uuid") == uuid


def login(caller: Caller, account: str, password: str, user: str | None) -> Exchange[Record]:
    """A session; its token opens the requests that follow. Sent without the token there was before."""
    body = {"account": account, "password": password, **({"user": user} if user else {})}
    previous, caller.token = caller.token, None
    try:
        session = _record((yield from caller.call(Request("POST", "/v1/sessions", body=body))))
        if not session.get("token"):
            raise UnexpectedAnswer("the answer to the login carries no token")
    except (ProblemError, UnexpectedAnswer):
        caller.token = previous
        raise
    caller.token = str(session["token"])
    return session


def _record(reply: Reply) -> Record:
    body = reply.json()
    if not isinstance(body, dict):
        raise UnexpectedAnswer(f"status {reply.status} with {type(body).__name__}, not a JSON object")
    return Record(body)


def _value(value: Any) -> Any:
    return Record(value) if isinstance(value, dict) else value
