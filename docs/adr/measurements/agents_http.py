"""Measures HTTP clients against each other: CPU per host command, both ends. Figures for ADR 0014.

    python -m venv v
    v/bin/pip install aiohttp aiosonic httpcore httptools httpx msgspec niquests pyreqwest uvicorn uvloop
    v/bin/python docs/adr/measurements/agents_http.py [connections]

A command of 430 bytes is posted to bare ASGI under uvicorn (httptools, uvloop), which parses it and answers at once.
Client and server are two processes on one machine; CPU is what the kernel counted for each. The median of three
rounds is shown. ``bare`` is httptools on an asyncio protocol, without timeouts, TLS or pool: the floor.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

CONNECTIONS = int(sys.argv[1]) if len(sys.argv) == 2 else 64
REQUESTS, ROUNDS = 4000, 3
UUID = "0192f0c0-0000-7000-8000-00000000000"
NIC = {"uuid": f"{UUID}2", "mac": "fa:00:00:00:00:01", "ip": "10.0.0.7", "l3_network_uuid": f"{UUID}3"}
VM = {"uuid": f"{UUID}1", "name": "vm-1", "cpu": 2, "memory": 1 << 30, "nics": [NIC]}
BODY = json.dumps(
    {"resource": f"{UUID}1", "fence": 12, "order": [1234, 2, 1], "action": "start", "wait": 10.0,
     "args": {"action": "start", "vm": VM, "delay_ms": 0}}
).encode()  # fmt: skip
HEADERS = {"content-type": "application/json"}
ANSWER = b'{"result":null}'
Post = Callable[[], Awaitable[tuple[int, bytes]]]
Client = Callable[[str, AsyncExitStack], Awaitable[Post]]


async def app(scope: Any, receive: Any, send: Any) -> None:
    import msgspec

    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body")
    msgspec.json.decode(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def serve(port: int) -> None:
    import uvicorn

    uvicorn.run(app, port=port, loop="uvloop", http="httptools", lifespan="off", log_level="error")


async def bare(url: str, stack: AsyncExitStack) -> Post:
    from urllib.parse import urlsplit

    import httptools

    where = urlsplit(url)
    head = (
        f"POST {where.path} HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-length: {len(BODY)}\r\n\r\n".encode()
    )
    idle: list[Any] = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def post(self) -> asyncio.Future[tuple[int, bytes]]:
            self.parser, self.body = httptools.HttpResponseParser(self), b""
            self.answer = asyncio.get_running_loop().create_future()
            self.transport.write(head + BODY)
            return self.answer

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            self.answer.set_result((self.parser.get_status_code(), self.body))

    async def post() -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        mine = (
            idle.pop() if idle else (await loop.create_connection(Connection, where.hostname, where.port))[1]
        )
        answer = await mine.post()
        idle.append(mine)
        return answer

    return post


async def aiohttp(url: str, stack: AsyncExitStack) -> Post:
    import aiohttp

    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
    )

    async def post() -> tuple[int, bytes]:
        async with session.post(url, data=BODY, headers=HEADERS) as response:
            return response.status, await response.read()

    return post


async def httpx(url: str, stack: AsyncExitStack) -> Post:
    import httpx

    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    client = await stack.enter_async_context(httpx.AsyncClient(limits=limits, timeout=30))

    async def post() -> tuple[int, bytes]:
        response = await client.post(url, content=BODY, headers=HEADERS)
        return response.status_code, response.content

    return post


async def httpcore(url: str, stack: AsyncExitStack) -> Post:
    import httpcore

    pool = await stack.enter_async_context(
        httpcore.AsyncConnectionPool(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    )

    async def post() -> tuple[int, bytes]:
        response = await pool.request("POST", url, content=BODY, headers=HEADERS)
        return response.status, response.content

    return post


async def niquests(url: str, stack: AsyncExitStack) -> Post:
    import niquests

    session = await stack.enter_async_context(niquests.AsyncSession(pool_maxsize=CONNECTIONS))

    async def post() -> tuple[int, bytes]:
        response = await session.post(url, data=BODY, headers=HEADERS)
        return response.status_code, response.content

    return post


async def aiosonic(url: str, stack: AsyncExitStack) -> Post:
    import aiosonic

    client = await stack.enter_async_context(aiosonic.HTTPClient())

    async def post() -> tuple[int, bytes]:
        response = await client.post(url, data=BODY, headers=HEADERS)
        return response.status_code, await response.content()

    return post


async def pyreqwest(url: str, stack: AsyncExitStack) -> Post:
    from pyreqwest.client import ClientBuilder

    client = await stack.enter_async_context(ClientBuilder().max_connections(CONNECTIONS).build())

    async def post() -> tuple[int, bytes]:
        request = client.post(url).body_bytes(BODY).header("content-type", "application/json")
        response = await request.build().send()
        return response.status, bytes(await response.bytes())

    return post


CLIENTS: dict[str, Client] = {
    "bare": bare, "pyreqwest": pyreqwest, "aiohttp": aiohttp, "aiosonic": aiosonic, "niquests": niquests,
    "httpcore": httpcore, "httpx": httpx,
}  # fmt: skip


async def drive(client: Client, url: str, pid: int) -> tuple[float, float, float]:
    """Microseconds of CPU a command in this process, and in the server; commands a second."""
    async with AsyncExitStack() as stack:
        post = await client(url, stack)
        await rounds(post, CONNECTIONS * 4)
        mine, theirs, began = time.process_time(), cpu(pid), time.perf_counter()
        await rounds(post, REQUESTS)
        took = time.perf_counter() - began
        used = (time.process_time() - mine, cpu(pid) - theirs)
    return used[0] / REQUESTS * 1e6, used[1] / REQUESTS * 1e6, REQUESTS / took


async def rounds(post: Post, count: int) -> None:
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            assert await post() == (200, ANSWER)

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


def cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(port: int, pid: int) -> None:
    import uvloop

    url = f"http://127.0.0.1:{port}/agents/10.0.0.1/command"
    print(f"{CONNECTIONS} connections | client µs | server µs | commands/s")
    for name, client in CLIENTS.items():
        runs = [uvloop.run(drive(client, url, pid)) for _ in range(ROUNDS)]
        shown = [f"{statistics.median(column):9.0f}" for column in zip(*runs, strict=True)]
        print(f"{name:14} | " + " | ".join(shown), flush=True)


def main() -> None:
    if len(sys.argv) == 3:
        serve(int(sys.argv[2]))
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "serve", str(port)])
    try:
        time.sleep(2)
        measure(port, server.pid)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
