"""One HTTP request and its answer, over plain ASGI: what REST, events, health and docs are written with."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from mgmtnode.api.problems import BAD_TEXT, INVALID_HEADER, TOO_LARGE, TOO_SLOW, WRONG_TYPE, encode
from mgmtnode.errors import ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_LIMIT = 1 << 20
BODY_SECONDS = 30.0
LINGER_BYTES = 8 << 20
LINGER_SECONDS = 2.0
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6}(?:\.\d{1,6})?)\"?\s*(?:$|[,;])", re.IGNORECASE)
KEY_LENGTH = 255
SAFE = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Disconnected(Exception):
    """The client went away in the middle of its request; nobody is left to answer."""


@dataclass(slots=True)
class Reply:
    """An answer that is sent at once. ``content`` is JSON-encoded unless it is bytes."""

    content: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"

    @property
    def body(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else encode(self.content)


class Request:
    """``request_id`` is the caller's X-Request-ID or a new one; ``route`` is the template of its path, for metrics."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.params: dict[str, str] = {}
        self.headers = _headers(scope["headers"])
        self.request_id = self.traceparent = self.route = ""
        self.status = 0

    @property
    def segments(self) -> list[str]:
        """The path, split before it is unquoted, so that a name may hold a slash. Raises api.bad-text."""
        raw = self.scope.get("raw_path") or self.path.encode()
        try:
            segments = [unquote(s, errors="strict") for s in raw.decode("ascii").removeprefix("/").split("/")]
        except UnicodeDecodeError:
            raise BAD_TEXT.error("the path is not UTF-8 with percent-encoding") from None
        if any("\0" in s for s in segments):
            raise BAD_TEXT.error("the path holds a NUL character")
        return segments

    async def body(self, limit: int = BODY_LIMIT) -> bytes:
        """Raises api.too-large, api.too-slow if it is not there after BODY_SECONDS, or Disconnected."""
        length = self.headers.get("content-length", "")
        if not length.strip("0") and "transfer-encoding" not in self.headers:
            return b""
        if length.isdecimal() and int(length[:12]) > limit:
            await self._discard()
            raise _closing(TOO_LARGE.error(f"the body has more than {limit} bytes", limit=limit))
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._all(limit)
        except TimeoutError:
            raise _closing(TOO_SLOW.error(f"the body did not arrive within {BODY_SECONDS:g} s")) from None

    async def _all(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = bool(message.get("more_body"))
            if size > limit:
                if more:
                    await self._discard()
                raise _closing(TOO_LARGE.error(f"the body has more than {limit} bytes", limit=limit))
        return b"".join(parts)

    async def _discard(self) -> None:
        """Takes the rest of a body that is refused, within bounds: a connection that is closed on bytes nobody
        read is reset, and the client loses the answer that says why. Who asked first (Expect) has sent nothing."""
        if "expect" in self.headers:
            return
        size, more = 0, True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while more and size < LINGER_BYTES:
                    message = await self.receive()
                    size += len(message.get("body", b""))
                    more = bool(message.get("more_body"))

    def check_content_type(self, *allowed: str) -> None:
        """Raises api.wrong-content-type."""
        kind, *parameters = self.headers.get("content-type", "").lower().split(";")
        charset = next((p.strip() for p in parameters if p.strip().startswith("charset=")), "charset=utf-8")
        if kind.strip() not in allowed or charset.replace('"', "") != "charset=utf-8":
            raise WRONG_TYPE.error(f"the body must be {' or '.join(allowed)} in UTF-8")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise WRONG_TYPE.error("the body must not be compressed")

    @property
    def wait(self) -> float:
        """Seconds from ``Prefer: wait=N``; 0 without it or for nonsense: a wish is never an error."""
        prefer = self.headers.get("prefer")
        found = WAIT.search(prefer[:200]) if prefer else None
        return float(found[1]) if found else 0.0

    @property
    def idempotency_key(self) -> str | None:
        """Raises api.invalid-header unless it is 1 to 255 printable ASCII characters."""
        key = self.headers.get("idempotency-key")
        if key is None:
            return None
        if not 0 < len(key) <= KEY_LENGTH or not (key.isascii() and key.isprintable()):
            raise INVALID_HEADER.error(
                f"Idempotency-Key must be 1 to {KEY_LENGTH} printable ASCII characters",
                header="Idempotency-Key",
            )
        return key

    async def start(self, status: int, headers: Mapping[str, str], media_type: str) -> None:
        """Sends the head of the answer; ``Reply`` or a stream's chunks follow."""
        self.status = status
        lines = [*SAFE, (b"x-request-id", self.request_id.encode())]
        if self.traceparent:
            lines.append((b"traceparent", self.traceparent.encode()))
        if media_type:
            lines.append((b"content-type", media_type.encode()))
        lines.extend((n.lower().encode(), v.encode("latin-1", "replace")) for n, v in headers.items())
        await self.send({"type": "http.response.start", "status": status, "headers": lines})

    async def chunk(self, body: bytes, more: bool) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, reply: Reply) -> None:
        bare = reply.status in (204, 304)
        body = b"" if bare else reply.body
        headers = dict(reply.headers)
        if not bare:
            headers["content-length"] = str(len(body))
        await self.start(reply.status, headers, "" if bare else reply.media_type)
        await self.chunk(b"" if self.method == "HEAD" else body, more=False)


def _headers(lines: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Repeated headers joined with commas, as RFC 9110 says."""
    found: dict[str, str] = {}
    for name, value in lines:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _closing(error: ApiError) -> ApiError:
    """The rest of the body is not read, so the connection cannot be used again."""
    error.headers["connection"] = "close"
    return error
