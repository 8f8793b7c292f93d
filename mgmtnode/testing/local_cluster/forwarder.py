"""A small HTTP load balancer for machines without HAProxy: ``python -m mgmtnode.testing.local_cluster.forwarder``.

One request a connection: the head of the request is read, ``Connection: close`` is put into it, and from then on bytes
are passed on in both directions until the node closes. So a node that is not ready loses no request: those it has end
there, the next ones go elsewhere. Not for production: no TLS, and a connection for every request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0
IDLE_SECONDS = 120.0
CONNECT_SECONDS = 1.0
CHECK_EVERY = 0.5
CHECK_SECONDS = 2.5
FALL = 2
CONNECTIONS = 2048
CHUNK = 64 * 1024
CHECK = b"GET /readyz HTTP/1.1\r\nHost: mgmtnode\r\nConnection: close\r\n\r\n"


@dataclass
class Node:
    """``ready``: whether new requests go there. ``failed``: checks in a row that it did not pass."""

    name: str
    host: str
    port: int
    ready: bool = True
    failed: int = 0
    open: int = 0

    async def check(self) -> None:
        """Never raises: whatever goes wrong is a check that was not passed."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                passed = await self._asked()
        except (OSError, TimeoutError):
            passed = False
        self.failed = 0 if passed else self.failed + 1
        ready = passed or (self.ready and self.failed < FALL)
        if ready != self.ready:
            print(f"{self.name} is {'up' if ready else 'down'}", flush=True)  # noqa: T201  # this program's log
        self.ready = ready

    async def _asked(self) -> bool:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(CHECK)
            return (await reader.readline()).split()[1:2] == [b"200"]
        finally:
            writer.close()


class Forwarder:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes, self._open = nodes, 0

    async def serve(self, host: str, port: int) -> None:
        """Until cancelled. Raises OSError when the address cannot be bound."""
        server = await asyncio.start_server(self._accept, host, port, limit=HEAD_BYTES)
        async with server, asyncio.TaskGroup() as tasks:
            for node in self._nodes:
                tasks.create_task(self._watch(node))
            tasks.create_task(server.serve_forever())

    async def _watch(self, node: Node) -> None:
        while True:
            await node.check()
            await asyncio.sleep(CHECK_EVERY)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._request(reader, writer)
        finally:
            self._open -= 1
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open > CONNECTIONS:
            writer.write(_refusal(503, "the load balancer is full"))
            return
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return
        except asyncio.LimitOverrunError:
            writer.write(_refusal(431, "the head of the request is too large"))
            return
        for node in self._choices():
            if await self._at(node, one_request(head), reader, writer):
                return
        writer.write(_refusal(503, "no management node can be reached"))

    def _choices(self) -> list[Node]:
        """The nodes that are ready, the least busy first. If none is, what they share is away, and each of them can
        tell the client better."""
        ready = [node for node in self._nodes if node.ready]
        return sorted(ready or self._nodes, key=lambda node: node.open)

    async def _at(
        self, node: Node, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """False: the node could not be reached, so that another one may get the request."""
        node.open += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                answers, there = await asyncio.open_connection(node.host, node.port)
        except (OSError, TimeoutError):
            return False
        else:
            there.write(head)
            if not await _exchange((reader, there), (answers, writer)):
                writer.write(_refusal(502, f"{node.name} gave no answer"))
            there.close()
            return True
        finally:
            node.open -= 1


Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _exchange(request: Way, answer: Way) -> bool:
    """Passes bytes on until the node has closed or the client has gone; whether the node answered anything."""
    asks, answers = asyncio.ensure_future(_pass_on(*request)), asyncio.ensure_future(_pass_on(*answer))
    done, _ = await asyncio.wait((asks, answers), return_when=asyncio.FIRST_COMPLETED)
    for way in (asks, answers):
        way.cancel()
    await asyncio.wait((asks, answers))
    # A client that went away first wants no word any more.
    return answers not in done or answers.result()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether there was anything. Never raises: a broken connection is one that ended."""
    some = False
    with contextlib.suppress(OSError, TimeoutError):
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await reader.read(CHUNK)
            if not chunk:
                break
            some = True
            writer.write(chunk)
            await writer.drain()
    return some


def one_request(head: bytes) -> bytes:
    """The head with ``Connection: close`` in place of what it says of the connection."""
    first, *lines = head[:-4].split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in HOP]
    return b"\r\n".join((first, *kept, b"Connection: close", b"", b""))


HOP = (b"connection", b"keep-alive", b"proxy-connection")


def _refusal(status: int, reason: str) -> bytes:
    body = f"{reason}\n".encode()
    head = (
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        "Retry-After: 1",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def _node(text: str) -> Node:
    name, _, address = text.partition("=")
    host, _, port = address.rpartition(":")
    if not name or not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return Node(name, host, int(port))


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--node", type=_node, action="append", required=True, metavar="NAME=HOST:PORT")
    given = options.parse_args()
    serving = asyncio.ensure_future(Forwarder(given.node).serve(given.host, given.port))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
