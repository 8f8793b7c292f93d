"""Serves the API: uvicorn inside the node's event loop, guarded against slow clients, stopped gently."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from asyncio import TimerHandle
from collections.abc import Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mgmtnode.api.edge import App
from mgmtnode.api.problems import (
    HEAD_TOO_LARGE,
    MALFORMED_REQUEST,
    PORT_TAKEN,
    Catalogue,
    encode,
    status_of,
)
from mgmtnode.errors import ApiError

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0
SEND_SECONDS = 60.0
START_SECONDS = 10.0


def _last_words(error: ApiError) -> bytes:
    """The whole answer to what never becomes a request; the connection closes with it."""
    body = encode(Catalogue().document(error.problem))
    status = status_of(error.problem)
    lines = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


TOO_LARGE = _last_words(
    HEAD_TOO_LARGE.error(f"the request line and the headers have more than {HEAD_BYTES} bytes")
)
MALFORMED = _last_words(
    MALFORMED_REQUEST.error("the request line, a header or the framing of the body is malformed")
)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen and how much to take. ``connections`` bounds all clients, event streams included;
    ``client_ca``: only those with a certificate of this authority are let in."""

    host: str = "127.0.0.1"
    port: int = 8080
    connections: int = 8192
    keep_alive_seconds: int = 75
    certificate: str | None = None
    private_key: str | None = None
    client_ca: str | None = None


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's protocol with limits that it lacks: bytes and seconds for the head of a request, and seconds
    for a client to take what it asked for."""

    _timer: TimerHandle | None = None
    _writer: TimerHandle | None = None
    _reading_head = True
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._writer is not None:
            self._writer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._reading_head:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head, self._reading_head = 0, True
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def on_headers_complete(self) -> None:
        self._disarm()
        self._reading_head = False
        if len(self.url) > HEAD_BYTES:  # in one piece with the rest; a longer one cannot even be parsed
            self._refuse()
            return
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writer = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None

    def send_400_response(self, msg: str) -> None:
        self.transport.write(MALFORMED)
        self.transport.close()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to the node, which stops its parts in order."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class HttpServer:
    """``start`` binds and serves; ``stop`` takes no more connections and lets the requests in flight end."""

    def __init__(self, app: App, listen: Listen) -> None:
        self._listen = listen
        self._config = uvicorn.Config(
            app,
            loop="none",
            http=GuardedHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=listen.connections,
            timeout_keep_alive=listen.keep_alive_seconds,
            ssl_certfile=listen.certificate,
            ssl_keyfile=listen.private_key,
            ssl_ca_certs=listen.client_ca,
            ssl_cert_reqs=ssl.CERT_REQUIRED if listen.client_ca else ssl.CERT_NONE,
        )
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = listen.port

    async def start(self) -> None:
        """Returns once requests are answered. Raises api.port-taken if the address cannot be bound."""
        listening = _bind(self._listen.host, self._listen.port)
        self.port = listening.getsockname()[1]
        self._server = _Server(self._config)
        self._serving = asyncio.create_task(self._server.serve([listening]), name="http-server")
        ready = asyncio.ensure_future(self._server.ready.wait())
        await asyncio.wait({ready, self._serving}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            self._serving.result()

    async def stop(self, seconds: float = 10.0) -> None:
        """Ends within about ``seconds``; requests that take longer are cut off."""
        if self._server is None or self._serving is None:
            return
        self._config.timeout_graceful_shutdown = max(1, int(seconds))
        self._server.should_exit = True
        await asyncio.wait({self._serving}, timeout=seconds + 2.0)
        self._serving.cancel()
        self._server = self._serving = None


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol said, asyncio switches Nagle's algorithm off; else each answer waits 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except (OSError, OverflowError) as exc:
        listening.close()
        text = f"cannot listen on {host}:{port}: {_reason(exc)}"
        raise PORT_TAKEN.error(text, host=host, port=port) from None
    listening.setblocking(False)
    return listening


def _reason(exc: Any) -> str:
    return str(getattr(exc, "strerror", None) or exc)
