"""The two transports over httpx, which only this module knows: send a request, read a stream."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx

from mgmtnode.client.core import Observer
from mgmtnode.client.exchange import Lost, Reply, Send
from mgmtnode.client.settings import is_local

CONNECT = 5.0


def options(urls: tuple[str, ...], ca_file: str | None) -> dict[str, Any]:
    """No proxy for this machine itself; no certificate authorities (70 ms) if nothing is encrypted."""
    plain = all(url.startswith("http://") for url in urls)
    return {"verify": False if plain else (ca_file or True), "trust_env": not is_local(urls)}


def arguments(step: Send) -> dict[str, Any]:
    request = step.request
    return {
        "method": request.method,
        "url": step.base_url + request.path,
        "params": request.query or None,
        "headers": dict(step.headers),
        "content": step.content,
        "timeout": httpx.Timeout(step.timeout, connect=min(CONNECT, step.timeout)),
    }


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)


def _lost(exc: httpx.RequestError) -> Lost:
    return Lost(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)


def _streams(response: httpx.Response) -> bool:
    return response.status_code == 200 and response.headers.get("content-type", "").startswith(
        "text/event-stream"
    )


class Transport:
    def __init__(self, urls: tuple[str, ...], ca_file: str | None, observer: Observer | None) -> None:
        self._http, self._observer = httpx.Client(**options(urls, ca_file)), observer

    def close(self) -> None:
        self._http.close()

    def send(self, step: Send) -> Reply | Lost:
        start = time.monotonic()
        answer: Reply | Lost
        try:
            answer = _reply(self._http.request(**arguments(step)))
        except httpx.RequestError as exc:
            answer = _lost(exc)
        if self._observer:
            self._observer(step, answer, time.monotonic() - start)
        return answer

    def stream(self, step: Send) -> Iterator[bytes | Reply | Lost]:
        """Nothing (``b""``) when the stream opened, then its bytes; last of all why it failed, if it did."""
        try:
            with self._http.stream(**arguments(step)) as response:
                if not _streams(response):
                    response.read()
                    yield _reply(response)
                    return
                yield b""
                yield from response.iter_bytes()
        except httpx.RequestError as exc:
            yield _lost(exc)


class AsyncTransport:
    def __init__(self, urls: tuple[str, ...], ca_file: str | None, observer: Observer | None) -> None:
        self._http, self._observer = httpx.AsyncClient(**options(urls, ca_file)), observer

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, step: Send) -> Reply | Lost:
        start = time.monotonic()
        answer: Reply | Lost
        try:
            answer = _reply(await self._http.request(**arguments(step)))
        except httpx.RequestError as exc:
            answer = _lost(exc)
        if self._observer:
            self._observer(step, answer, time.monotonic() - start)
        return answer

    async def stream(self, step: Send) -> AsyncGenerator[bytes | Reply | Lost, None]:
        """As ``Transport.stream``."""
        try:
            async with self._http.stream(**arguments(step)) as response:
                if not _streams(response):
                    await response.aread()
                    yield _reply(response)
                    return
                yield b""
                async for chunk in response.aiter_bytes():
                    yield chunk
        except httpx.RequestError as exc:
            yield _lost(exc)
