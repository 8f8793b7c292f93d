"""One agent behind real HTTP on the loopback interface, and a line to it that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mgmtnode.agents.http import HttpAgents
from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.server import AgentApp
from mgmtnode.api.server import HttpServer, Listen
from tests.agents.world import Agent, World

SECONDS = 30


class Line:
    """A TCP proxy. ``lose_replies``: so many answers are swallowed, and the connection cut instead; ``silent``: nothing
    gets through any more and nothing is said about it. ``most`` and ``opened``: connections at once, and in all."""

    def __init__(self) -> None:
        self.lose_replies = self.open = self.most = self.opened = 0
        self.silent = False
        self._target = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, target: int) -> None:
        self._target = target
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=1 << 22)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        self.cut()
        while self.open:
            await asyncio.sleep(0.01)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open, self.opened = self.open + 1, self.opened + 1
        self.most = max(self.most, self.open)
        mine = [writer]
        try:
            there, away = await asyncio.open_connection("127.0.0.1", self._target)
            mine.append(away)
            self._writers.update(mine)
            ways = [
                asyncio.ensure_future(self._pass(*way))
                for way in ((reader, away, False), (there, writer, True))
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        except OSError:
            pass
        finally:
            for each in mine:
                self._writers.discard(each)
                each.transport.abort()
            self.open -= 1

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.silent:
                    await asyncio.Event().wait()
                if reply and self.lose_replies:
                    self.lose_replies -= 1
                    return
                writer.write(data)
                await writer.drain()


class Wired:
    """``agents`` is the client, ``at`` the endpoint of the one agent, behind ``line``."""

    def __init__(
        self, *, connections: int = 64, to_one: int = 64, limit: int = 100, path: Path | str = ":memory:"
    ) -> None:
        self.world = World()
        self.agent = Agent(path, self.world, limit=limit)
        self.app = AgentApp(lambda name: self.agent.named(name))
        self.line = Line()
        self.http = HttpAgents(connections=connections, to_one=to_one)
        self.agents = LocalAgents(reply_wait=1.0)
        self.agents.serve("http", self.http.find)

    async def start(self) -> None:
        self.server = HttpServer(self.app, Listen(port=0))
        await self.server.start()
        await self.line.start(self.server.port)
        self.base = f"http://127.0.0.1:{self.line.port}"
        self.at = f"{self.base}/agents/host-1"

    async def stop(self) -> None:
        await self.http.close()
        await self.line.close()
        self.app.close()
        await self.agent.register.stop()
        await self.server.stop(2)
        await self.agent.file.close()


def tell(story: Callable[[Wired], Awaitable[None]], **options: Any) -> None:
    async def told() -> None:
        wired = Wired(**options)
        await wired.start()
        try:
            await asyncio.wait_for(story(wired), SECONDS)
        finally:
            await wired.stop()

    asyncio.run(told())
