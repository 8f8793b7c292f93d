"""The small load balancer: where requests go, and what becomes of them when a node goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mgmtnode.testing.local_cluster.forwarder import Forwarder, Node, one_request
from mgmtnode.testing.process import HOST, free_port


class Backend:
    """Answers with its name; its readiness and what it does with a request are the test's."""

    def __init__(self, name: str) -> None:
        self.node = Node(name, HOST, free_port())
        self.ready, self.heads = True, list[bytes]()
        self.gate = asyncio.Event()
        self.gate.set()
        self.mute = False
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.node.port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/readyz" in head:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if self.ready else b"HTTP/1.1 503 No\r\n\r\n")
            else:
                self.heads.append(head)
                await self.gate.wait()
                if not self.mute:
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + self.node.name.encode())
        writer.close()


class Scene:
    def __init__(self, port: int, a: Backend, b: Backend) -> None:
        self.port, self.a, self.b = port, a, b

    async def ask(self, head: bytes = b"GET /v1/zones HTTP/1.1\r\nHost: x\r\n\r\n", more: bytes = b"") -> str:
        """The status and what follows the head."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(head + more)
        answer = (await reader.read()).decode()
        writer.close()
        status, _, body = answer.partition("\r\n\r\n")
        return f"{status.split()[1]} {body.strip()}" if status else "nothing"

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    a, b = Backend("a"), Backend("b")
    await a.start()
    await b.start()
    port = free_port()
    serving = asyncio.ensure_future(Forwarder([a.node, b.node]).serve(HOST, port))
    made = Scene(port, a, b)
    try:
        await made.until(lambda: serving.done() or _listens(port))
        yield made
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        a.close()
        b.close()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def play(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def played() -> None:
        async with scene() as made:
            await story(made)

    asyncio.run(played())


def test_an_answer_comes_back_as_the_node_gave_it() -> None:
    async def story(scene: Scene) -> None:
        assert await scene.ask() in ("200 a", "200 b")

    play(story)


def test_requests_go_where_the_fewest_are() -> None:
    async def story(scene: Scene) -> None:
        scene.a.gate.clear()
        scene.b.gate.clear()
        asked = [asyncio.ensure_future(scene.ask()) for _ in range(6)]
        await scene.until(lambda: len(scene.a.heads) == len(scene.b.heads) == 3)
        scene.a.gate.set()
        scene.b.gate.set()
        assert sorted(await asyncio.gather(*asked)) == ["200 a"] * 3 + ["200 b"] * 3

    play(story)


def test_a_node_that_is_going_ends_what_it_has_and_gets_nothing_new() -> None:
    async def story(scene: Scene) -> None:
        scene.a.gate.clear()
        scene.b.node.ready = False  # for the first request to meet a
        slow = asyncio.ensure_future(scene.ask())
        await scene.until(lambda: len(scene.a.heads) == 1)
        scene.a.ready = False
        await scene.until(lambda: not scene.a.node.ready and scene.b.node.ready)
        assert [await scene.ask() for _ in range(5)] == ["200 b"] * 5
        scene.a.gate.set()
        assert await slow == "200 a"

    play(story)


def test_a_node_that_refuses_connections_costs_no_request() -> None:
    async def story(scene: Scene) -> None:
        scene.a.close()
        assert [await scene.ask() for _ in range(4)] == ["200 b"] * 4

    play(story)


def test_a_node_that_is_back_is_used_again() -> None:
    async def story(scene: Scene) -> None:
        scene.a.ready = False
        await scene.until(lambda: not scene.a.node.ready)
        scene.a.ready = True
        await scene.until(lambda: scene.a.node.ready)
        scene.b.close()
        assert await scene.ask() == "200 a"

    play(story)


def test_when_no_node_is_ready_they_get_requests_all_the_same() -> None:
    async def story(scene: Scene) -> None:
        scene.a.ready = scene.b.ready = False
        await scene.until(lambda: not scene.a.node.ready and not scene.b.node.ready)
        assert await scene.ask() in ("200 a", "200 b")

    play(story)


def test_without_a_node_there_is_a_503_that_says_so() -> None:
    async def story(scene: Scene) -> None:
        scene.a.close()
        scene.b.close()
        assert await scene.ask() == "503 no management node can be reached"

    play(story)


def test_a_request_that_a_node_took_and_did_not_answer_is_not_given_to_another() -> None:
    async def story(scene: Scene) -> None:
        scene.a.mute = scene.b.mute = True
        said = await scene.ask()
        assert said.startswith("502 ") and len(scene.a.heads + scene.b.heads) == 1

    play(story)


def test_a_head_that_does_not_end_is_refused() -> None:
    async def story(scene: Scene) -> None:
        said = await scene.ask(b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000)
        assert said.startswith(("431 ", "nothing"))  # the rest of the head may meet the closed connection
        assert scene.a.heads + scene.b.heads == []

    with contextlib.suppress(ConnectionResetError):
        play(story)


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ),
        (
            b"GET / HTTP/1.1\r\nconnection:  keep-alive\r\nKeep-Alive: 5\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ),
    ],
)
def test_a_connection_is_for_one_request(head: bytes, sent: bytes) -> None:
    assert one_request(head) == sent
