"""One line: a port that is listened on, the server behind it, and the connections between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from random import Random

from mgmtnode.testing.chaos.commits import Frontend
from mgmtnode.testing.chaos.weather import FAIR, Commit, Way, Weather
from mgmtnode.testing.process import HOST

PIECE = 1 << 16
BACKLOG = 1024
CONNECT_SECONDS = 5.0
KERNEL_SECONDS = (
    8.0  # between the keepalives' 3 + 3 × 1 s and the 10 s of TCP_USER_TIMEOUT that nodes ask for
)
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection and drops what was not sent


class Died(Exception):
    """A connection has waited for longer than both its ends would."""


@dataclass(frozen=True, slots=True)
class End:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """The other side reads ECONNRESET."""
        with contextlib.suppress(OSError):
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.writer.transport.abort()


class Line:
    """To a server on a loopback port. To be used on the event loop that it was opened on.

    ``postgres``: looks for COMMITs, and gives up connections that are held for KERNEL_SECONDS. In a network it is the
    kernels of both ends that find out that nothing arrives (keepalives, TCP_USER_TIMEOUT), and nodes and PostgreSQL
    rely on it; here they see a proxy that answers. Other protocols here have heartbeats or deadlines of their own.
    """

    def __init__(self, name: str, target: int, rng: Random, *, postgres: bool = False) -> None:
        self.name, self.target, self.port = name, target, 0
        self.weather = FAIR
        self.commits = 0  # transactions whose client was left without an answer
        self.bytes = {Way.UP: 0, Way.DOWN: 0}
        self.postgres = postgres
        self._rng, self._held_since = rng, 0.0
        self._connections: set[Connection] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port, backlog=BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        await asyncio.gather(*(connection.task for connection in self._connections), return_exceptions=True)

    def change(self, weather: Weather) -> None:
        """From now on. What should not outlive the weather until now is reset."""
        before, self.weather = self.weather, weather
        now = asyncio.get_running_loop().time()
        outlived = self.postgres and before.held and now - self._held_since > KERNEL_SECONDS
        if not before.held:
            self._held_since = now
        for connection in list(self._connections):
            if before.severed or outlived or weather.refuses:
                connection.reset()
            elif weather.severed:
                connection.server_end_lost()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def reset(self) -> None:
        """All connections of now."""
        for connection in list(self._connections):
            connection.reset()

    async def passable(self, way: Way) -> None:
        """Returns once data may go this way. Raises Died."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KERNEL_SECONDS if self.postgres else None):
                while self.weather.severed or way in self.weather.held:
                    await self._changed.wait()
                return
        raise Died

    def strikes(self, commit: Commit) -> bool:
        """Whether this COMMIT is one that goes wrong so."""
        weather = self.weather
        if weather.commit is not commit or self._rng.random() >= weather.share:
            return False
        self.commits += 1
        return True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, End(reader, writer))
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class Connection:
    """Of one client. ``run`` ends with it."""

    def __init__(self, line: Line, client: End) -> None:
        self._line, self._client = line, client
        self._server: End | None = None
        self._frontend = Frontend()
        self._unanswered = False
        self.severed = False
        task = asyncio.current_task()
        assert task is not None
        self.task = task

    async def run(self) -> None:
        try:
            await self._connect()
            assert self._server is not None
            up = self._pump(Way.UP, self._client, self._server)
            down = self._pump(Way.DOWN, self._server, self._client)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(up)
                pumps.create_task(down)
            for end in (self._client, self._server):
                end.writer.close()
        except* (OSError, Died, TimeoutError, asyncio.CancelledError):
            self._reset_ends()

    def reset(self) -> None:
        self._reset_ends()
        self.task.cancel()

    def _reset_ends(self) -> None:
        for end in (self._client, self._server):
            if end is not None:
                end.reset()

    def server_end_lost(self) -> None:
        """The server lost this connection, and the client does not know."""
        self.severed = True
        if self._server is not None:
            self._server.reset()

    async def _connect(self) -> None:
        if self._line.weather.refuses:
            raise ConnectionRefusedError
        await self._line.passable(Way.UP)
        async with asyncio.timeout(CONNECT_SECONDS):
            self._server = End(*await asyncio.open_connection(HOST, self._line.target))

    async def _pump(self, way: Way, source: End, sink: End) -> None:
        try:
            while data := await source.reader.read(PIECE):
                await self._pass(way, data, sink)
            await self._line.passable(way)
            if sink.writer.can_write_eof():
                sink.writer.write_eof()
        except (OSError, RuntimeError):
            if not self.severed:
                raise ConnectionResetError from None
            await asyncio.Event().wait()  # until the line changes, which resets the client

    async def _pass(self, way: Way, data: bytes, sink: End) -> None:
        line = self._line
        await line.passable(way)
        if pause := line.weather.delay + (len(data) / line.weather.rate if line.weather.rate else 0.0):
            await asyncio.sleep(pause)
            await line.passable(way)
        self._watch_commits(way, data)
        line.bytes[way] += len(data)
        sink.writer.write(data)
        await sink.writer.drain()

    def _watch_commits(self, way: Way, data: bytes) -> None:
        """Raises Died for who is to hear nothing."""
        if way is Way.DOWN:
            if self._unanswered:
                raise Died
            return
        if self._line.postgres and self._frontend.commits(data):
            if self._line.strikes(Commit.LOST):
                raise Died
            self._unanswered = self._line.strikes(Commit.UNANSWERED)
