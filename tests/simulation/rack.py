"""The product's simulated hosts in a simulated world: shared by all nodes, watched, and with agents that die."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from mgmtnode.agents.backend import Settled
from mgmtnode.agents.port import Command, Sealed
from mgmtnode.agents.register import CommandRegister
from mgmtnode.agents.repository import RegisterRepository
from mgmtnode.contracts.hypervisor import VmAction, VmSpec
from mgmtnode.contracts.simulator import Fault as HostFault
from mgmtnode.contracts.simulator import FaultKind as HostFaultKind
from mgmtnode.ports import UuidSource
from mgmtnode.testing.simulation.faults import Fault
from mgmtnode.testing.simulation.ports import SeededRng, VirtualClock
from mgmtnode.testing.simulation.world import World
from services.simulator.agent import SimulatedAgent
from services.simulator.faults import HostFaults
from services.simulator.host import SimulatedHost
from services.simulator.hosts import SimulatedHosts
from services.simulator.pace import Pace, PacedCommand
from services.simulator.vm import ALIVE

HOSTS = 4
LAUNCH = 0.7  # seconds a command takes on average
MOVE = 1.5
HELD = """SELECT allocation.resource_uuid, unit, host.management_ip FROM allocation
    LEFT JOIN host ON host.uuid = pool_uuid WHERE kind IN ('ip', 'memory')"""
ENDED = ("Succeeded", "Failed", "Cancelled")
FOREVER = 1_000_000.0

OWES = """SELECT 1 FROM cleanup_debt JOIN resource ON resource.uuid = host_uuid
    WHERE resource.name = ? AND resource_uuid = ?"""


class Leisure(Pace):
    """Most commands take less than a second, some of them much longer."""

    chance: Random

    def seconds(self, command: PacedCommand) -> float:
        mean = MOVE if command.action in (VmAction.MIGRATE, VmAction.MIGRATE_BACK) else LAUNCH
        if self.chance.random() < 0.12:
            mean *= 8
        return self.chance.uniform(mean / 3, mean * 5 / 3)


class Deed(list[Any]):
    """One command that an agent carried out: [host, identity, resource, order, fence, action, how it ended]."""

    def __str__(self) -> str:
        host, _, resource, order, fence, action, how = self
        return f"{action} {resource} {order} under fence {fence} on {host} ({how})"


class Watched(CommandRegister):
    """A register whose deeds are written down, and whose agent may be made to die around one of them."""

    def __init__(self, rack: Rack, name: str, repository: RegisterRepository, host: SimulatedHost, id: str):
        super().__init__(repository, host, identity=id)
        self._rack, self._name = rack, name
        self.dies = ""  # "before" or "after" the effect of the next command
        self.away = 0.0

    async def seal(self, resource: str, fence: int, wait: float) -> Sealed:
        sealed = await super().seal(resource, fence, wait)
        if not sealed.running:
            self._rack.sealed(self._name, self.identity, resource, fence)
        return sealed

    async def _perform(self, command: Command) -> Settled:
        deed = self._rack.began(self._name, self.identity, command)
        try:
            if self.dies == "before":
                await self._die()
            settled = await super()._perform(command)
            if self.dies == "after":
                await self._die()
        except asyncio.CancelledError:
            self._rack.ended(deed, "cut off")
            raise
        self._rack.ended(deed, "failed" if settled.problem else "done")
        self._rack.check_holdings()
        return settled

    async def _die(self) -> None:
        self.dies = ""
        self._rack.crash(self._name, self.away)
        await asyncio.sleep(FOREVER)


class Rack(SimulatedHosts):
    """``deeds``: all that agents carried out, in order; ``at_work``: what they are at now, by host and resource.
    ``excused``: VMs of which a host whose disk was replaced has begun a command after its job."""

    scheme = "http"  # as if they were in a process of their own

    def __init__(self, world: World) -> None:
        rng = SeededRng("rack")
        self._world = world
        pace = Leisure(rng)
        pace.chance = Random(f"{world.seed} rack")
        super().__init__(":memory:", rng, UuidSource(VirtualClock(world.loop), rng), pace=pace, inline=True)
        self.names: Sequence[str] = [f"host-{number}" for number in range(1, HOSTS + 1)]
        self._identities: dict[str, str] = {}
        self.excused: set[str] = set()
        self.deeds: list[Deed] = []
        self.at_work: dict[tuple[str, str], Deed] = {}
        self._last: dict[tuple[str, str, str], Deed] = {}
        self._seals: dict[tuple[str, str, str], int] = {}

    def power_on(self) -> None:
        """Always in this order, so that the identities are the ones that the database knows."""
        self._identities = {name: self.find(name).register.identity for name in self.names}

    def name_of(self, address: str) -> str:
        """From http://rack/agents/NAME."""
        return address.rpartition("/")[2]

    def agent(self, name: str) -> SimulatedAgent:
        return self.find(name)

    # what goes wrong

    def strike(self, fault: Fault) -> None:
        agent = self.agent(fault.target)
        match fault.what:
            case "crash":
                self.crash(fault.target, fault.seconds)
            case "crash before" | "crash after":
                register = agent.register
                assert isinstance(register, Watched)
                register.dies, register.away = fault.what.split()[1], fault.seconds
            case "disk":
                self._world.loop.spawn(
                    agent.register.replace(f"disk {fault.at:g} of {fault.target}"), fault.target
                )
            case "fail":
                agent.host.faults.add(HostFault(kind=HostFaultKind.FAIL, times=1))
            case "fails" | "hangs":
                kind = HostFaultKind.FAIL if fault.what == "fails" else HostFaultKind.HANG
                agent.host.faults.add(HostFault(kind=kind))
                self._world.loop.call_later(fault.seconds, self._mend, fault.target)
            case "vm":
                if running := sorted(vm.uuid for vm in agent.host.inventory()):
                    agent.host.crash(running[0])
            case "power":
                for vm in agent.host.inventory():
                    agent.host.crash(vm.uuid)
                self.crash(fault.target, fault.seconds)

    def crash(self, name: str, seconds: float) -> None:
        """The agent's process dies, and is started again after a while. The VMs live on."""
        agent = self.agent(name)
        self._world.trace(name, "the agent dies")
        agent.host.faults.add(HostFault(kind=HostFaultKind.DISCONNECT))
        self._world.loop.spawn(agent.register.stop(), name)
        self._world.loop.call_later(seconds, self._restart, name, agent)

    def _mend(self, name: str) -> None:
        """What failed or hung works again; an agent that is away stays so."""
        agent = self.agent(name)
        away = [fault for fault in agent.host.faults.now if fault.kind is HostFaultKind.DISCONNECT]
        agent.host.faults.clear()
        for fault in away:
            agent.host.faults.add(fault)

    def _restart(self, name: str, dead: SimulatedAgent) -> None:
        if self._agents[name] is dead:
            self._world.trace(name, "the agent is back")
            size = dead.host.cpu, dead.host.memory
            self._power_on(name).host.declare(*size)

    def heal(self) -> None:
        for name in self.names:
            agent = self.agent(name)
            register = agent.register
            assert isinstance(register, Watched)
            register.dies = ""
            if register._stopped:
                self._restart(name, agent)
            agent.host.faults.clear()

    # what agents did

    def began(self, host: str, identity: str, command: Command) -> Deed:
        resource, order = command.resource, command.order
        deed = Deed((host, identity, resource, order, command.fence, command.action, "runs"))
        self._world.trace(host, f"{command.action} {_short(resource)} {order} fence {command.fence}")
        self.deeds.append(deed)
        if (host, resource) in self.at_work:
            self._world.fail(
                f"I3 two commands at once on {resource}: {self.at_work[host, resource]} and {deed}"
            )
        self.at_work[host, resource] = deed
        self._check_order(host, identity, deed)
        self._check_job(deed)
        return deed

    def ended(self, deed: Deed, how: str) -> None:
        deed[-1] = how
        self.at_work.pop((deed[0], deed[2]), None)
        self._world.trace(deed[0], f"{deed[5]} {_short(deed[2])} {deed[3]} {how}")

    def sealed(self, host: str, identity: str, resource: str, fence: int) -> None:
        key = (host, identity, resource)
        self._seals[key] = max(fence, self._seals.get(key, 0))

    def check_holdings(self) -> None:
        """No two VMs have one address, whatever the books say; and what runs holds its address, and its memory of the
        host where it runs."""
        seen: dict[str, str] = {}
        books = self._world.server.rows(HELD)
        held = {(vm, what) for vm, what, _ in books} | {(vm, host) for vm, _, host in books}
        for name, vm in self._alive():
            if self.agent(name).register.identity != self._identities[name]:
                continue  # as above
            wanted = [name, *(nic.ip for nic in vm.nics if nic.ip)]
            for ip in wanted[1:]:
                if seen.setdefault(ip, vm.uuid) != vm.uuid:
                    self._world.fail(f"I9 {vm.uuid} and {seen[ip]} both run with the address {ip}")
            for what in wanted:
                if (vm.uuid, what) not in held:
                    self._world.fail(f"I8 {vm.uuid} runs on {name}, and does not hold its part of {what}")

    def _alive(self) -> Iterator[tuple[str, VmSpec]]:
        for name in self.names:
            host = self.agent(name).host
            for there in host.inventory():
                vm = host.find(there.uuid)
                if vm is not None and vm.power in ALIVE:
                    yield name, vm.spec

    def _check_order(self, host: str, identity: str, deed: Deed) -> None:
        key = (host, identity, deed[2])
        last = self._last.get(key)
        if last is not None and (deed[3] < last[3] or (deed[3] == last[3] and last[-1] != "cut off")):
            self._world.fail(f"I3 out of order: {deed} after {last}")
        if deed[4] < self._seals.get(key, 0):
            self._world.fail(f"I17 {deed} began below the sealed fence {self._seals[key]}")
        self._last[key] = deed

    def _check_job(self, deed: Deed) -> None:
        """Once a job was taken over and has ended, nothing begins any more that its earlier owners sent, but where the
        host is known to owe a clean-up for that."""
        forgot = deed[1] != self._identities[deed[0]]
        run_no, fence = deed[3][0], deed[4]
        for state, over in self._world.server.rows("SELECT state, fence FROM job WHERE seq = ?", run_no):
            if state not in ENDED:
                continue
            if forgot:  # a limit that no system lifts
                self.excused.add(deed[2])
            elif fence < over and not self._world.server.rows(OWES, deed[0], deed[2]):
                self._world.fail(f"I17 {deed} began after its job ended as {state} under {over}")

    def _power_on(self, name: str) -> SimulatedAgent:
        faults = HostFaults(name, self._rng)
        host = SimulatedHost(
            name, self._repository, faults, pace=self._pace, peer=lambda to: self.find(to).host
        )
        register = Watched(self, name, RegisterRepository(self._file, name), host, self._uuids.draw())
        agent = self._agents[name] = SimulatedAgent(register, host, self._uuids)
        return agent


def _short(uuid: str) -> str:
    return uuid[-6:]
