"""Host agents in a thread of this process, behind HTTP: hosts that all nodes of a cluster under test share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mgmtnode.agents.port import AgentEndpoint
from mgmtnode.agents.server import AgentApp
from mgmtnode.api.server import HttpServer, Listen
from mgmtnode.testing.node_thread import LoopThread

STOP_SECONDS = 1.0


class Agents(Protocol):
    """The agents of all hosts of a process."""

    def find(self, name: str) -> AgentEndpoint: ...

    async def close(self) -> None: ...


class AgentsThread(LoopThread):
    """``make`` builds the agents on the loop that they are to live on. ``variable`` is the environment variable of the
    global property by which nodes find them."""

    def __init__(self, make: Callable[[], Agents], variable: str) -> None:
        super().__init__("agents")
        self._make, self._variable = make, variable
        self.agents: Any = None
        self._server: HttpServer

    @property
    def environ(self) -> dict[str, str]:
        """What goes into the environment of a node."""
        return {self._variable: f"http://127.0.0.1:{self._server.port}"}

    def start(self) -> None:
        self.start_loop()
        self.run(self._start())

    def stop(self) -> None:
        self.run(self._stop())
        self.end_loop()

    async def _start(self) -> None:
        self.agents = self._make()
        self._server = HttpServer(AgentApp(self.agents.find), Listen(port=0))
        await self._server.start()

    async def _stop(self) -> None:
        await self.agents.close()
        await self._server.stop(STOP_SECONDS)
