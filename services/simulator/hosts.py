"""All simulated hosts of one data directory: a rack with a machine at every address that is asked for."""

from __future__ import annotations

from pathlib import Path

from mgmtnode.agents.file import AgentFile
from mgmtnode.agents.register import CommandRegister
from mgmtnode.agents.repository import SCHEMA as REGISTER_SCHEMA
from mgmtnode.agents.repository import RegisterRepository
from mgmtnode.ports import Rng, UuidSource
from services.simulator.agent import SimulatedAgent
from services.simulator.faults import HostFaults
from services.simulator.host import Delay, SimulatedHost
from services.simulator.repository import SCHEMA, SimulatedRepository

SCHEME = "sim"


def endpoint(management_ip: str) -> str:
    return f"{SCHEME}://{management_ip}"


def immediate(action: str) -> float:
    """No command takes any time."""
    return 0.0


class SimulatedHosts:
    """The hosts share one file. ``synchronous=OFF`` is right for it: what is simulated is the death of the
    process, after which the operating system still has every write; nobody simulates a power cut of the
    machine.

    Built inside a running event loop. ``inline`` keeps threads out, for simulations.
    """

    def __init__(
        self, path: str | Path, rng: Rng, uuids: UuidSource, *, delay: Delay = immediate, inline: bool = False
    ) -> None:
        self._file = AgentFile(path, synchronous="OFF", inline=inline, schema=(*REGISTER_SCHEMA, *SCHEMA))
        self._repository = SimulatedRepository(self._file)
        self._rng, self._uuids, self._delay = rng, uuids, delay
        self._agents: dict[str, SimulatedAgent] = {}
        for name, cpu, memory in self._repository.hosts():
            self._power_on(name).host.declare(cpu, memory)

    def find(self, address: str) -> SimulatedAgent:
        """The agent at an endpoint. A machine nobody asked for yet is there all the same, without size or
        VMs."""
        name = address.removeprefix(f"{SCHEME}://")
        return self._agents.get(name) or self._power_on(name)

    async def close(self) -> None:
        """Stops all hosts as a power cut would, and releases the file."""
        for agent in self._agents.values():
            await agent.register.stop()
        await self._file.close()

    def _power_on(self, name: str) -> SimulatedAgent:
        faults = HostFaults(name, self._rng)
        host = SimulatedHost(
            name, self._repository, faults, delay=self._delay, peer=lambda to: self.find(to).host
        )
        register = CommandRegister(RegisterRepository(self._file, name), host, identity=self._uuids.draw())
        agent = self._agents[name] = SimulatedAgent(register, host, self._uuids)
        return agent
