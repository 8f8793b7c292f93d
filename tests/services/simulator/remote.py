"""A rack of simulated hosts in a process of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from mgmtnode.agents.http import HttpAgents
from mgmtnode.agents.local import LocalAgents
from mgmtnode.ports import SystemClock
from services.simulator.driver import SimulatorDriver
from services.simulator.reach import Reach
from tests.services.simulator.process import SimulatorProcess
from tests.services.simulator.rack import Rack


class RemoteRack(Rack):
    """``process`` has the hosts, and this is one of its clients."""

    def __init__(self, process: SimulatorProcess, *, answer: float = 5.0, command: float = 20.0) -> None:
        self.process = process
        super().__init__(process.directory, answer=answer, command=command)

    def power_on(self) -> None:
        self.client = HttpAgents()
        self.agents = LocalAgents()
        self.agents.serve("http", self.client.find)
        self.endpoint = Reach(self.process.url, alone=False).endpoint
        self.driver = SimulatorDriver(
            self.agents,
            SystemClock(),
            lambda: self.patience,
            endpoint=self.endpoint,
            delay_ms=lambda action: self.delay_ms,
        )

    async def restart(self) -> None:
        await asyncio.to_thread(self.kill)
        await asyncio.to_thread(self.process.start)

    def kill(self) -> None:
        self.process.kill()

    async def close(self) -> None:
        await self.client.close()


def tell(story: Callable[[RemoteRack], Awaitable[None]], directory: Path, *options: str) -> SimulatorProcess:
    """The process, stopped again, for its history."""

    async def told(process: SimulatorProcess) -> None:
        rack = RemoteRack(process)
        try:
            await asyncio.wait_for(story(rack), 60)
        finally:
            await rack.close()

    with SimulatorProcess(directory / "simulator", *options) as process:
        asyncio.run(told(process))
    return process
