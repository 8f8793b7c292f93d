"""The host side of agents over HTTP: an ASGI application in front of one agent, or of many in one process."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from mgmtnode.agents.port import UNREACHABLE, AgentEndpoint
from mgmtnode.agents.wire import (
    ASK,
    COMMAND,
    FORGET,
    JSON,
    PROBLEM,
    REQUEST_BYTES,
    SEAL,
    AskBody,
    CommandBody,
    ForgetBody,
    SealBody,
    document,
)
from mgmtnode.errors import INVALID, NOT_FOUND, OVERLOADED, ApiError, from_exception

log = logging.getLogger(__name__)

BODY_SECONDS = 15.0
IN_FLIGHT = 8192

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Act = Callable[[AgentEndpoint, bytes], Awaitable[tuple[int, Any]]]

encode = msgspec.json.Encoder().encode
_command = msgspec.json.Decoder(CommandBody).decode
_seal = msgspec.json.Decoder(SealBody).decode
_forget = msgspec.json.Decoder(ForgetBody).decode
_ask = msgspec.json.Decoder(AskBody).decode


class _Gone(Exception):
    """Whoever asked hung up."""


class AgentApp:
    """``find(name)`` is the agent at ``/agents/{name}``, or raises an ApiError; a host with one agent knows one name.

    Who may ask is for the server's TLS to say (``Listen.client_ca``). ``limit`` bounds the requests in flight, those
    that wait for a command included. ``GET /livez`` answers as long as the process does.
    """

    def __init__(self, find: Callable[[str], AgentEndpoint], *, limit: int = IN_FLIGHT) -> None:
        self._find, self._limit = find, limit
        self.in_flight = 0
        self._closed = False

    def close(self) -> None:
        """Refuses what comes from now on, so that who asks goes on asking elsewhere or later."""
        self._closed = True

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.in_flight += 1
        try:
            status, answer = await self._handle(scope, receive)
            await _send(send, status, encode(answer), [(b"content-type", JSON.encode())])
        except ApiError as exc:
            await self._refuse(send, exc)
        except _Gone:
            return
        except asyncio.CancelledError:  # by the server, which has waited long enough for its end
            await self._refuse(send, UNREACHABLE.error("the agent has stopped", retry_after=1.0))
        except Exception as exc:
            log.exception("the request %s failed", scope["path"][:200])
            await self._refuse(send, from_exception(exc))
        finally:
            self.in_flight -= 1

    async def _handle(self, scope: Message, receive: Receive) -> tuple[int, Any]:
        if scope["path"] == "/livez":
            return 200, "alive"
        self._admit()
        name, act = _routed(scope["method"], scope["path"])
        body = await _body(receive)
        try:
            return await act(self._find(name), body)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise INVALID.error(f"the body of {scope['path'][:200]}: {exc}") from exc

    def _admit(self) -> None:
        if self._closed:
            raise UNREACHABLE.error("the agent is stopping", retry_after=1.0)
        if self.in_flight > self._limit:
            raise OVERLOADED.error(f"{self._limit} requests are in flight already", retry_after=1.0)

    async def _refuse(self, send: Send, exc: ApiError) -> None:
        status, body = document(exc.problem)
        headers = [(b"content-type", PROBLEM.encode())]
        if exc.problem.retry_after is not None:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(exc.problem.retry_after))))
        if self._closed or "connection" in exc.headers:
            headers.append((b"connection", b"close"))
        await _send(send, status, body, headers)


async def _do(agent: AgentEndpoint, body: bytes) -> tuple[int, Any]:
    asked = _command(body)
    answer = await agent.command(asked.command(), asked.wait)
    return 202 if answer.running else 200, answer


async def _fence(agent: AgentEndpoint, body: bytes) -> tuple[int, Any]:
    asked = _seal(body)
    sealed = await agent.seal(asked.resource, asked.fence, asked.wait)
    return 202 if sealed.running else 200, sealed


async def _drop(agent: AgentEndpoint, body: bytes) -> tuple[int, Any]:
    asked = _forget(body)
    return 200, await agent.forget(asked.floor, asked.registers)


async def _answer(agent: AgentEndpoint, body: bytes) -> tuple[int, Any]:
    asked = _ask(body)
    return 200, await agent.ask(asked.question, asked.body)


ACTS: dict[str, Act] = {COMMAND: _do, SEAL: _fence, FORGET: _drop, ASK: _answer}


def _routed(method: str, path: str) -> tuple[str, Act]:
    match path.split("/"):
        case ["", "agents", name, verb] if name and verb in ACTS:
            if method == "POST":
                return name, ACTS[verb]
            raise INVALID.error(f"{path[:200]} takes POST, not {method}")
    raise NOT_FOUND.error(f"there is no {path[:200]}; agents are at /agents/{{name}}/{'|'.join(ACTS)}")


async def _body(receive: Receive) -> bytes:
    first = await _next(receive)
    if not first.get("more_body"):
        return _bounded(first.get("body", b""))
    parts, size = [first["body"]], len(first["body"])
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await _next(receive)
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > REQUEST_BYTES or not message.get("more_body"):
                    return _bounded(b"".join(parts))
    except TimeoutError:
        raise _closing(INVALID.error(f"the body did not arrive within {BODY_SECONDS:g} s")) from None


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _Gone
    return message


def _bounded(body: bytes) -> bytes:
    if len(body) > REQUEST_BYTES:
        raise _closing(INVALID.error(f"the body has more than {REQUEST_BYTES} bytes"))
    return body


def _closing(error: ApiError) -> ApiError:
    """The rest of the body is not read, so the connection cannot be used again."""
    error.headers["connection"] = "close"
    return error


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
