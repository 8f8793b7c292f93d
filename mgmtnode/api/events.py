"""GET /v1/events: what happens, as server-sent events that a client can resume where it left off."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import msgspec

from mgmtnode.api.auth import authorise, bearer
from mgmtnode.api.gateway import Gateway
from mgmtnode.api.http import Request
from mgmtnode.api.parameters import Parameters, invalid
from mgmtnode.api.paths import Endpoint
from mgmtnode.api.problems import TOO_MANY_STREAMS
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import Caller
from mgmtnode.schema import UUID_PATTERN

KEEP_ALIVE = 15.0
POLL_SECONDS = 1.0
POLLS = 3
RECHECK_SECONDS = 60.0
BATCH = 200
MOST_STREAMS = 500
BEGINNING = "0-0"
RETRY = b"retry: 2000\n\n"
HEADERS = {"x-accel-buffering": "no"}
POSITION = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
LAST = 2**63 - 1  # what a column holds


class Logged(Protocol):
    """The part of a logged event that filters look at; all of it is sent."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def resource_uuid(self) -> str: ...


class EventSource(Protocol):
    """The part of ``mgmtnode.events.log`` that streams need."""

    async def read(self, after: str | None, limit: int, caller: Caller) -> Any: ...

    async def changed(self, timeout: float) -> None: ...

    async def head(self) -> str: ...

    async def oldest(self) -> str | None: ...


@dataclass(slots=True)
class Wanted:
    """Which events: names by glob (none: all), and one resource (none: all)."""

    types: tuple[str, ...] = ()
    resource: str | None = None

    def takes(self, event: Logged) -> bool:
        if self.resource and event.resource_uuid != self.resource:
            return False
        return not self.types or any(fnmatchcase(event.name, glob) for glob in self.types)


@dataclass(slots=True)
class Stream:
    """One client. Nothing is buffered for it: the next batch is read when it has taken the last one.

    ``told`` is the last position the client knows; ``polls`` how often to look again soon.
    """

    request: Request
    caller: Caller
    token: str
    wanted: Wanted
    position: str
    gone: asyncio.Future[None]
    told: str = ""
    alive_at: float = 0.0
    checked_at: float = 0.0
    polls: int = 0


class Events:
    """``streams`` counts the clients; ``close`` ends their streams so that they reconnect to another node."""

    def __init__(self, gateway: Gateway, log: EventSource, *, most: int = MOST_STREAMS) -> None:
        self._gateway, self._log, self._most = gateway, log, most
        self._closing = asyncio.Event()
        self.streams = 0

    def routes(self) -> Iterator[tuple[str, str, Endpoint, str]]:
        yield "GET", "/v1/events", self.serve, "event.read"

    def close(self) -> None:
        self._closing.set()

    async def serve(self, request: Request) -> None:
        token = bearer(request.headers.get("authorization"))
        caller = await self._gateway.authenticate(token)
        authorise(caller, "event.read")
        wanted, after = _wanted(request)
        if self.streams >= self._most or self._closing.is_set():
            raise TOO_MANY_STREAMS.error(f"the node serves {self._most} streams already", retry_after=5.0)
        self.streams += 1
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            stream = Stream(request, caller, token, wanted, after or await self._log.head(), gone)
            await self._serve(stream)
        finally:
            self.streams -= 1
            gone.cancel()

    async def _serve(self, stream: Stream) -> None:
        request = stream.request
        opening = await self._opening(stream)
        await request.start(200, HEADERS, "text/event-stream")
        last = b": the node stops, connect again\n\n"
        if request.method != "HEAD":
            try:
                await request.chunk(opening, more=True)
                while not stream.gone.done() and not self._closing.is_set():
                    await self._next(stream)
            except ApiError as exc:  # the token ended, or the database is away: the client may resume
                last = f": {exc.code}\n\n".encode()
        await request.chunk(b"" if request.method == "HEAD" else last, more=False)

    async def _opening(self, stream: Stream) -> bytes:
        """The position, so that even a client that saw no event resumes without a gap; or a reset."""
        stream.alive_at = stream.checked_at = asyncio.get_running_loop().time()
        reset = b""
        oldest, head = await self._log.oldest(), await self._log.head()
        if oldest is not None and stream.position != BEGINNING:
            at = place(stream.position)
            if at < before(oldest) or at > place(head):
                stream.position = head
                data = {"reason": "events between the last one you saw and now are gone; list again"}
                reset = b"event: reset\nid: %s\ndata: %s\n\n" % (head.encode(), msgspec.json.encode(data))
        stream.told = stream.position
        return RETRY + b"id: %s\n\n" % stream.position.encode() + reset

    async def _next(self, stream: Stream) -> None:
        # Listening starts before reading, or an event in between would wait for the next one.
        changed = asyncio.ensure_future(self._log.changed(KEEP_ALIVE))
        try:
            events = await self._log.read(stream.position, BATCH, stream.caller)
            if events:
                await self._send(stream, events)
            else:
                await self._wait(stream, changed)
        finally:
            changed.cancel()
        if asyncio.get_running_loop().time() - stream.alive_at >= KEEP_ALIVE:
            await self._keep_alive(stream)

    async def _send(self, stream: Stream, events: Sequence[Logged]) -> None:
        stream.position = events[-1].id
        taken = [e for e in events if stream.wanted.takes(e)]
        if taken:
            stream.told = taken[-1].id
            stream.alive_at = asyncio.get_running_loop().time()
            await stream.request.chunk(b"".join(map(_event, taken)), more=True)

    async def _wait(self, stream: Stream, changed: asyncio.Future[None]) -> None:
        """Until something new may be there or a sign of life is due.

        The log shows an event only when no older transaction is open any more, and nobody tells of that; so
        after each change it is looked at a few times more.
        """
        left = stream.alive_at + KEEP_ALIVE - asyncio.get_running_loop().time()
        timeout = max(0.0, min(left, POLL_SECONDS) if stream.polls else left)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            waited: set[asyncio.Future[Any]] = {changed, closing, stream.gone}
            await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
        stream.polls = POLLS if changed.done() else max(0, stream.polls - 1)

    async def _keep_alive(self, stream: Stream) -> None:
        """A comment, the position if events were passed over, and at times a look whether the token holds."""
        now = stream.alive_at = asyncio.get_running_loop().time()
        if now - stream.checked_at >= RECHECK_SECONDS:
            stream.caller = await self._gateway.authenticate(stream.token)
            stream.checked_at = now
        moved = b"id: %s\n" % stream.position.encode() if stream.told != stream.position else b""
        stream.told = stream.position
        await stream.request.chunk(b": keep-alive\n" + moved + b"\n", more=True)


def _wanted(request: Request) -> tuple[Wanted, str | None]:
    """The filter and the position. Last-Event-ID, which a browser sends on reconnect, goes first."""
    params = Parameters(request.scope["query_string"])
    types = tuple(t.strip() for value in params.many("types") for t in value.split(",") if t.strip())
    resource = params.one("resource")
    if resource is not None and not re.fullmatch(UUID_PATTERN, resource):
        raise invalid("resource", "expected a uuid")
    after = request.headers.get("last-event-id") or params.one("after")
    params.one("after")
    params.finish()
    if after is not None and not (POSITION.fullmatch(after) and max(place(after)) <= LAST):
        raise invalid("after", "expected the id of an event")
    return Wanted(types[:50], resource), after


def _event(event: Logged) -> bytes:
    data = msgspec.json.encode(event)
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event.id.encode(), event.name.encode(), data)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def place(position: str) -> tuple[int, int]:
    """Where a position stands: comparable."""
    xid, _, seq = position.partition("-")
    return int(xid), int(seq)


def before(position: str) -> tuple[int, int]:
    """The position just before: whoever stands there has missed nothing."""
    xid, seq = place(position)
    return xid, seq - 1
