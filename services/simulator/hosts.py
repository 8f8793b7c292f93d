"""All simulated hosts of one data directory: a rack with a machine at every address that is asked for."""

from __future__ import annotations

import re
from pathlib import Path

from mgmtnode.agents.file import AgentFile
from mgmtnode.agents.register import CommandRegister, unwatched
from mgmtnode.agents.repository import SCHEMA as REGISTER_SCHEMA
from mgmtnode.agents.repository import RegisterRepository
from mgmtnode.errors import NOT_FOUND, OVERLOADED
from mgmtnode.ports import Rng, UuidSource
from services.simulator.agent import SimulatedAgent
from services.simulator.faults import HostFaults
from services.simulator.history import History
from services.simulator.host import SimulatedHost
from services.simulator.pace import Pace
from services.simulator.repository import SCHEMA, SimulatedRepository

FILE = "simulator.db"  # in the data directory
SCHEME = "sim"
ADDRESS = re.compile(r"[0-9A-Za-z_.:-]{1,255}")
HOST_LIMIT = 100_000


def endpoint(management_ip: str) -> str:
    return f"{SCHEME}://{management_ip}"


def named(endpoint: str) -> str:
    return endpoint.removeprefix(f"{SCHEME}://")


class SimulatedHosts:
    """The hosts share one file. ``synchronous=OFF`` is right for it: what is simulated is the death of the
    process, after which the operating system still has every write; nobody simulates a power cut of the
    machine.

    Built inside a running event loop. ``inline`` keeps threads out, for simulations.
    """

    def __init__(
        self,
        path: str | Path,
        rng: Rng,
        uuids: UuidSource,
        *,
        pace: Pace | None = None,
        history: History | None = None,
        inline: bool = False,
    ) -> None:
        self._file = AgentFile(path, synchronous="OFF", inline=inline, schema=(*REGISTER_SCHEMA, *SCHEMA))
        self._repository = SimulatedRepository(self._file)
        self._rng, self._uuids = rng, uuids
        self._pace, self._history = pace or Pace(rng), history
        self._agents: dict[str, SimulatedAgent] = {}
        for name, cpu, memory in self._repository.hosts():
            self._power_on(name).host.declare(cpu, memory)

    def find(self, name: str) -> SimulatedAgent:
        """The agent of the host with this management address. A machine nobody asked for yet is there all the same,
        without size or VMs. Raises core.not-found for what is no address, core.overloaded beyond HOST_LIMIT."""
        agent = self._agents.get(name)
        if agent is not None:
            return agent
        if not ADDRESS.fullmatch(name):
            raise NOT_FOUND.error(f"{name[:200]!r} is no address of a host")
        if len(self._agents) >= HOST_LIMIT:
            raise OVERLOADED.error(f"there are {HOST_LIMIT} simulated hosts already")
        return self._power_on(name)

    async def power_off(self) -> None:
        """Stops all hosts as a power cut would: what runs is cut off, and whoever waits for it told so."""
        for agent in self._agents.values():
            await agent.register.stop()
            agent.host.faults.clear()  # a question that hangs would keep the process

    async def close(self) -> None:
        """Stops all hosts and releases the file."""
        await self.power_off()
        await self._file.close()

    def _power_on(self, name: str) -> SimulatedAgent:
        faults = HostFaults(name, self._rng)
        host = SimulatedHost(
            name, self._repository, faults, pace=self._pace, peer=lambda to: self.find(to).host
        )
        register = CommandRegister(
            RegisterRepository(self._file, name),
            host,
            identity=self._uuids.draw(),
            watch=self._history.of(name) if self._history else unwatched,
        )
        agent = self._agents[name] = SimulatedAgent(register, host, self._uuids)
        return agent
