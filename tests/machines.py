"""Simulated hosts from within, wherever they live: in the only node, or behind HTTP beside several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from mgmtnode.ports import SystemClock, SystemRng, UuidSource
from mgmtnode.testing.agents_thread import AgentsThread
from mgmtnode.testing.cloud import Cloud
from mgmtnode.testing.node_thread import LoopThread
from services.simulator.agent import SimulatedAgent
from services.simulator.host import SimulatedHost
from services.simulator.hosts import FILE, SimulatedHosts
from services.simulator.properties import AGENTS_URL
from services.simulator.service import SimulatorService

T = TypeVar("T")


def shared(directory: Path) -> AgentsThread:
    """Simulated hosts for the nodes of a cluster, not started yet."""

    def make() -> SimulatedHosts:
        rng = SystemRng()
        return SimulatedHosts(directory / FILE, rng, UuidSource(SystemClock(), rng))

    return AgentsThread(make, AGENTS_URL.env)


def on_machine(cloud: Cloud, address: str, act: Callable[[SimulatedHost], T]) -> T:
    """``act(host)`` on the event loop of the host with this address."""

    async def there() -> T:
        return act(agent_at(cloud, address).host)

    return thread_of_machines(cloud).run(there())


def thread_of_machines(cloud: Cloud) -> LoopThread:
    """Where they run."""
    return cloud.thread if cloud.agents is None else cloud.agents


def agent_at(cloud: Cloud, address: str) -> SimulatedAgent:
    """The agent of the host with this address."""
    if cloud.agents is not None:
        return cast("SimulatedHosts", cloud.agents.agents).find(address)
    return cloud.thread.service(SimulatorService).find(f"sim://{address}")
