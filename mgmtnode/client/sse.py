"""Server-sent events: the line format, and what a reconnect has to remember."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from mgmtnode.client.errors import ConnectionFailed
from mgmtnode.client.exchange import Caller, Lost, Reply, Request, Send
from mgmtnode.client.records import Record

SILENCE = 60.0
LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``data`` is a Record if it was a JSON object; ``id`` is what ``last_event_id`` takes."""

    id: str | None
    type: str
    data: Any


@dataclass(slots=True)
class Decoder:
    """Bytes in, events out, after the HTML standard, section 9.2.6. ``last_id`` and ``retry`` survive a
    reconnect.

    Lines end with CR, LF or both and nothing else; ``str.splitlines`` would also cut at U+2028, which JSON
    may hold.
    """

    last_id: str | None = None
    retry: float | None = None
    _rest: bytes = b""
    _id: str | None = None
    _type: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        *lines, self._rest = LINE_END.split(self._rest + chunk)
        for line in lines:
            event = self._line(line.decode("utf-8", "replace"))
            if event:
                yield event

    def reset(self) -> None:
        """Forgets a half-received event: after a lost connection it comes again, whole."""
        self._rest, self._id, self._type, self._data = b"", self.last_id, "", []

    def __post_init__(self) -> None:
        self._id = self.last_id

    def _line(self, line: str) -> Event | None:
        if not line:
            data, kind = "\n".join(self._data), self._type
            self._type, self._data, self.last_id = "", [], self._id
            return Event(self.last_id, kind or "message", _decode(data)) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isdecimal():
            self.retry = int(value) / 1000
        return None


def _decode(data: str) -> Any:
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data
    return Record(value) if isinstance(value, dict) else value


class Feed:
    """The state of one ``events()`` iterator: which request comes next, and when to stop trying.

    The caller's ``retry_for`` counts from the last time the stream worked, so that a stream may live for
    months.
    """

    def __init__(self, caller: Caller, params: Mapping[str, str] | None, last_event_id: str | None) -> None:
        self._caller, self._query = caller, tuple((params or {}).items())
        self._decoder = Decoder(last_id=last_event_id)
        self._failures, self._worked = 0, caller.clock()
        self._end: Reply | Lost | None = None

    def open(self) -> Send:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._decoder.last_id:
            headers["Last-Event-ID"] = self._decoder.last_id
        self._decoder.reset()
        self._end = None
        # A healthy stream is never silent for long: the server sends comments, so silence means a dead peer.
        return replace(
            self._caller.attempt(Request("GET", "/v1/events", self._query, headers=headers)), timeout=SILENCE
        )

    def take(self, item: bytes | Reply | Lost) -> Iterator[Event]:
        """What the transport read: bytes (none when the stream opened), or why there are no more."""
        if not isinstance(item, bytes):
            self._end = item
            return
        self._worked = self._caller.clock()
        for event in self._decoder.feed(item):
            self._failures = 0
            yield event

    def next(self, reconnect: bool) -> float | None:
        """Seconds to the next attempt, None to stop; raises if more attempts cannot help or took too long."""
        if self._end is None and not reconnect:
            return None
        failure: Exception = ConnectionFailed(
            self._caller.urls, getattr(self._end, "reason", "the stream ended")
        )
        final = not reconnect
        if isinstance(self._end, Reply):
            failure = self._end.problem()
            final = final or (self._end.status < 500 and self._end.status != 429)
        if final or self._caller.clock() - self._worked > self._caller.retry_for:
            raise failure
        self._failures += 1
        if self._end is not None:
            self._caller.turn()
        return self._decoder.retry or self._caller.backoff(self._failures // len(self._caller.urls))
