"""The agent of a simulated host: its register and its questions, behind a line that can be cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mgmtnode.agents.port import UNKNOWN, Answer, Command, Sealed
from mgmtnode.agents.register import CommandRegister
from mgmtnode.contracts.hypervisor import HostFacts, HostReport
from mgmtnode.contracts.simulator import Fault, FaultKind
from mgmtnode.ports import UuidSource
from services.simulator.faults import AT_ONCE
from services.simulator.host import SimulatedHost

VERSION = "simulator 1"
EXPERIMENTER = ("fault", "faults", "clear-faults")


class SimulatedAgent:
    """An ``AgentEndpoint``. The experimenter's questions get through whatever the host's faults are."""

    def __init__(self, register: CommandRegister, host: SimulatedHost, uuids: UuidSource) -> None:
        self.register, self.host = register, host
        self._faults, self._uuids = host.faults, uuids

    async def command(self, command: Command, wait: float) -> Answer:
        self._faults.reachable()
        answer = await self.register.command(command, wait)
        self._faults.reachable()
        if not answer.running:
            self._faults.reply(command.action)
        return answer

    async def seal(self, resource: str, fence: int, wait: float) -> Sealed:
        self._faults.reachable()
        sealed = await self.register.seal(resource, fence, wait)
        self._faults.reachable()
        self._faults.reply("seal")
        return sealed

    async def forget(self, floor: int, registers: Mapping[str, int]) -> int:
        self._faults.reachable()
        return await self.register.forget(floor, registers)

    async def ask(self, question: str, body: dict[str, Any]) -> Any:
        if question in EXPERIMENTER:
            return await self._experiment(question, body)
        self._faults.reachable()
        await self._faults.work(question, lambda: 0.0)
        answer = self._answer(question, body)
        self._faults.reachable()
        self._faults.reply(question)
        return msgspec.to_builtins(answer)

    def _answer(self, question: str, body: dict[str, Any]) -> Any:
        match question:
            case "ping":
                return {"identity": self.register.identity}
            case "connect":
                self.host.declare(body["cpu"], body["memory"])
                return self._facts()
            case "facts":
                return self._facts()
            case "ended":
                return self.register.ended(body["floor"], after=body["after"], limit=body["limit"])
            case "report":
                return HostReport(identity=self.register.identity, vms=self.host.inventory())
        raise UNKNOWN.error(f"a simulated host knows no {question!r}")

    def _facts(self) -> HostFacts:
        host = self.host
        return HostFacts(cpu=host.cpu, memory=host.memory, identity=self.register.identity, version=VERSION)

    async def _experiment(self, question: str, body: dict[str, Any]) -> Any:
        if question == "clear-faults":
            self._faults.clear()
        elif question == "fault":
            await self._strike(msgspec.convert(body, Fault))
        return msgspec.to_builtins(self._faults.now)

    async def _strike(self, fault: Fault) -> None:
        if fault.kind not in AT_ONCE:
            self._faults.add(fault)
        elif fault.kind is FaultKind.REPLACE_DISK:
            await self.register.replace(self._uuids.draw())
        elif fault.vm_uuid is None:
            raise UNKNOWN.error("crash-vm needs a vm_uuid")
        else:
            self.host.crash(fault.vm_uuid)
