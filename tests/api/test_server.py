"""The server on real sockets: bad clients, limits, and stopping."""

from __future__ import annotations

import asyncio
import re
import socket

import httpx
import pytest

from mgmtnode.api import server
from mgmtnode.api.server import HttpServer, Listen
from mgmtnode.errors import ApiError

HEAD = (
    b"POST /v1/zones HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin\r\ncontent-type: application/json\r\n"
)


async def talk(port: int, *parts: bytes, end: bool = False) -> bytes:
    """Sends parts, and reads until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if end:
            writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_a_taken_port_is_a_clear_error(world, run) -> None:
    async def story() -> None:
        await world.api.start()
        with pytest.raises(ApiError, match="Address already in use") as caught:
            await HttpServer(world.app, Listen(port=world.api.port)).start()
        assert caught.value.code == "api.port-taken"
        with pytest.raises(ApiError, match=re.escape("cannot listen on 192.0.2.1:80")):
            await HttpServer(world.app, Listen(host="192.0.2.1", port=80)).start()
        await world.api.stop(1)

    run(story())


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((b"nonsense\r\n\r\n",), b"HTTP/1.1 400"),
        ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",), b"HTTP/1.1 400"),
        ((b"GET /livez HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 200_000,), b"HTTP/1.1 431"),
        ((b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000,), b"HTTP/1.1 431"),
        ((HEAD + b"content-length: 99999999\r\n\r\n",), b"HTTP/1.1 413"),
        ((HEAD + b"content-length: -1\r\n\r\n{}",), b"HTTP/1.1 400"),
        ((HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",), b"HTTP/1.1 400"),
        ((HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",), b"HTTP/1.1 400"),
        ((b"GET /%E2%28%A1 HTTP/1.0\r\n\r\n",), b"HTTP/1.1 400"),
    ],
)
def test_what_is_no_http_is_refused(world, run, parts, expected: bytes) -> None:
    async def story() -> None:
        await world.api.start()
        try:
            answer = await talk(world.api.port, *parts)
            # What the client still sends after the refusal may reset the connection before it reads it.
            assert answer.startswith(expected) or (answer == b"" and len(parts[0]) > 65536)
            assert world.api.edge.in_flight == 0
        finally:
            await world.api.stop(1)

    run(story())


def test_a_body_in_chunks_is_read_and_limited(world, run) -> None:
    async def story() -> None:
        await world.api.start()
        chunked = HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        good = await talk(world.api.port, chunked, b'8\r\n{"name":\r\n', b'4\r\n"a"}\r\n', b"0\r\n\r\n")
        bad = await talk(world.api.port, chunked, *[b"10000\r\n" + b" " * 65536 + b"\r\n"] * 20)
        await world.api.stop(1)
        assert good.startswith(b"HTTP/1.1 202")
        assert bad.startswith(b"HTTP/1.1 413") or bad == b""

    run(story())


def test_a_client_that_leaves_in_the_middle_of_its_body_starts_nothing(world, run) -> None:
    async def story() -> None:
        await world.api.start()
        _, writer = await asyncio.open_connection("127.0.0.1", world.api.port)
        writer.write(HEAD + b'content-length: 100\r\n\r\n{"name":"a"}')
        await writer.drain()
        while world.api.edge.in_flight == 0:
            await asyncio.sleep(0.001)
        writer.close()
        while world.api.edge.in_flight:
            await asyncio.sleep(0.001)
        await world.api.stop(1)
        assert not world.jobs.accepted

    run(story())


def test_a_client_too_slow_with_its_headers_is_cut_off(world, run, monkeypatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)

    async def story() -> None:
        await world.api.start()
        silent = await talk(world.api.port)
        slow = await talk(world.api.port, b"GET /livez HTTP/1.1\r\nhost: ")
        again = await talk(
            world.api.port, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /livez HTTP/1.1\r\n"
        )
        await world.api.stop(1)
        assert silent == slow == b""
        assert again.startswith(b"HTTP/1.1 200")

    run(story())


def test_stopping_lets_requests_in_flight_end_and_refuses_new_ones(world, run) -> None:
    async def story() -> None:
        await world.api.start()
        release = asyncio.Event()
        accept = world.jobs.accept

        async def slowly(msg, caller, **options):
            await release.wait()
            return await accept(msg, caller, **options)

        world.jobs.accept = slowly
        url = f"http://127.0.0.1:{world.api.port}"
        async with httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer admin"}) as client:
            first = asyncio.create_task(client.post("/v1/zones", json={"name": "a"}))
            while world.api.edge.in_flight == 0:
                await asyncio.sleep(0.001)
            stopping = asyncio.create_task(world.api.stop(5))
            while not world.api.edge.stopping:
                await asyncio.sleep(0)
            release.set()
            assert (await first).status_code == 202
            await stopping
            with pytest.raises(httpx.ConnectError):
                await client.get("/livez")

    run(story())


def test_connections_answer_without_the_delay_of_nagle(run) -> None:
    """It costs 40 ms for each answer whose head and body are written one after the other."""

    async def story() -> None:
        listening = server._bind("127.0.0.1", 0)
        taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken.set_result(
                writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            )
            writer.close()

        async with await asyncio.start_server(accepted, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            assert await asyncio.wait_for(taken, 10)
            writer.close()

    run(story())


def test_a_body_that_is_too_large_is_refused_with_an_answer_that_arrives(world, run) -> None:
    """Closing on what nobody read resets the connection, and the answer is lost on its way."""

    async def story() -> None:
        await world.api.start()
        head = HEAD + b"content-length: %d\r\n\r\n" % (4 << 20)
        chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n400000\r\n"
        for start in (head, chunked):
            answer = await talk(world.api.port, start, *[b"x" * 65536] * 64)
            assert answer.startswith(b"HTTP/1.1 413") and b"api.too-large" in answer
        await world.api.stop(1)

    run(story())


def test_what_is_no_request_is_told_so_with_a_problem(world, run) -> None:
    async def story() -> None:
        await world.api.start()
        answer = await talk(world.api.port, b"nonsense\r\n\r\n")
        assert b"application/problem+json" in answer and b"api.malformed-request" in answer
        for head in (
            b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000,
            b"GET /?q=" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        ):
            answer = await talk(world.api.port, head)
            assert answer.startswith(b"HTTP/1.1 431") and b"api.head-too-large" in answer
        await world.api.stop(1)

    run(story())
