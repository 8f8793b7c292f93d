"""Agents behind ``http://`` and ``https://``: the client side, and the only import of aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from mgmtnode.agents.lines import IDLE_SECONDS, TURN_SECONDS, Lines
from mgmtnode.agents.port import FOREIGN, UNREACHABLE, Answer, Command, Sealed
from mgmtnode.agents.wire import (
    ANSWER_BYTES,
    ASK,
    COMMAND,
    FORGET,
    JSON,
    PROBLEM,
    SEAL,
    AskBody,
    CommandBody,
    ForgetBody,
    SealBody,
)
from mgmtnode.errors import ApiError, Problem
from mgmtnode.telemetry import trace_context

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0  # beyond what the agent was asked to wait: then the line is dead, whatever TCP says
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
GATEWAY = (502, 503, 504)  # without a problem in it: somebody in between says that the agent is not there

encode = msgspec.json.Encoder().encode
decode = msgspec.json.decode


class HttpAgents:
    """Connections to agents, kept open between requests; ``connections`` in all and ``to_one`` address at most.

    A request is sent once: no answer says nothing about whether it was done, and whoever asked repeats it.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, connections: int = 512, to_one: int = 256
    ) -> None:
        self._tls = tls
        self._lines = Lines(connections, min(to_one, connections))
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def find(self, endpoint: str) -> HttpAgent:
        """The agent at ``http://HOST:PORT/agents/NAME``."""
        parts = urlsplit(endpoint)
        if not parts.hostname:
            raise UNREACHABLE.error(f"{endpoint!r} is not the address of an agent")
        return HttpAgent(self, endpoint, parts.netloc)

    async def close(self) -> None:
        """Cuts off what is under way."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def command(self, address: str) -> AbstractAsyncContextManager[float]:
        return self._lines.command(address)

    def question(self, address: str) -> AbstractAsyncContextManager[None]:
        return self._lines.question(address)

    async def post(self, url: str, body: bytes, seconds: float | None) -> bytes:
        """The body of a good answer. Raises agent.unreachable when there is none within ``seconds``, agent.foreign, and
        what the agent says."""
        headers = {"content-type": JSON, "accept-encoding": "identity"}
        if parent := trace_context.outgoing():
            headers[trace_context.HEADER] = parent
        if not self._lines.reusable:
            headers["connection"] = "close"
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        request = self._open().post(
            URL(url, encoded=True), data=body, headers=headers, timeout=timeout, allow_redirects=False
        )
        try:
            async with request as response:
                return await _good(response)
        except aiohttp.ClientResponseError as exc:
            raise FOREIGN.error(f"{url}: the answer is not HTTP: {exc.message[:200]}") from exc
        except (aiohttp.ClientError, OSError) as exc:  # a TimeoutError is an OSError
            raise UNREACHABLE.error(f"{url}: {_reason(exc)}") from exc

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise UNREACHABLE.error("this node is stopping and asks no agents any more")
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, ssl=self._tls or True, keepalive_timeout=IDLE_SECONDS
            )  # Lines bounds it, and knows questions from commands
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


class HttpAgent:
    """An ``AgentEndpoint`` behind HTTP, made for one command, seal or question.

    A command that takes its time does not keep its connection: it is left to run and asked for again, after longer and
    longer pauses where many wait for a connection.
    """

    def __init__(self, http: HttpAgents, endpoint: str, address: str) -> None:
        self._http, self._endpoint, self._address = http, endpoint, address
        self._pause = FIRST_PAUSE

    async def command(self, command: Command, wait: float) -> Answer:
        def body(hold: float) -> CommandBody:
            return CommandBody(
                resource=command.resource,
                fence=command.fence,
                order=command.order,
                action=command.action,
                args=command.args,
                wait=hold,
            )

        async with self._http.command(self._address) as longest:
            hold = min(wait, longest)
            answer: Answer = await self._post(COMMAND, body(hold), Answer, hold)
        if answer.running and longest < TURN_SECONDS:
            await self._give_way(wait - hold)
        return answer

    async def seal(self, resource: str, fence: int, wait: float) -> Sealed:
        async with self._http.command(self._address) as longest:
            hold = min(wait, longest)
            body = SealBody(resource=resource, fence=fence, wait=hold)
            sealed: Sealed = await self._post(SEAL, body, Sealed, hold)
        if sealed.running and longest < TURN_SECONDS:
            await self._give_way(wait - hold)
        return sealed

    async def forget(self, floor: int, registers: Mapping[str, int]) -> int:
        async with self._http.question(self._address):
            body = ForgetBody(floor=floor, registers=dict(registers))
            dropped: int = await self._post(FORGET, body, int, None)
            return dropped

    async def ask(self, question: str, body: dict[str, Any]) -> Any:
        async with self._http.question(self._address):
            return await self._post(ASK, AskBody(question=question, body=body), Any, None)

    async def _give_way(self, left: float) -> None:
        await asyncio.sleep(max(0.0, min(left, self._pause)))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    async def _post(self, verb: str, body: Any, reply: Any, hold: float | None) -> Any:
        url = f"{self._endpoint}/{verb}"
        seconds = None if hold is None else hold + ANSWER_SECONDS
        answer = await self._http.post(url, encode(body), seconds)
        try:
            return decode(answer, type=reply)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise FOREIGN.error(f"{url}: the answer is not an agent's: {exc}") from exc


async def _good(response: aiohttp.ClientResponse) -> bytes:
    body = await _bounded(response)
    if response.status in (200, 202) and response.content_type == JSON:
        return body
    if response.content_type == PROBLEM:
        raise _said(response, body)
    start = body[:100].decode("utf-8", "replace")
    told = f"{response.url}: HTTP {response.status} {response.content_type}: {start!r}"
    raise (UNREACHABLE if response.status in GATEWAY else FOREIGN).error(told)


def _said(response: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        return ApiError(decode(body, type=Problem))
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return FOREIGN.error(f"{response.url}: HTTP {response.status} with a problem of another form: {exc}")


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES:
            raise FOREIGN.error(f"{response.url}: the answer has more than {ANSWER_BYTES} bytes")
    return b"".join(parts)


def _reason(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return str(exc) or type(exc).__name__
