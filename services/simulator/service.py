"""The simulator: hosts in this process or in one of their own, their driver, and the faults they can be given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.config.core_properties import DATA_DIR
from mgmtnode.config.file import ConfigFileError
from mgmtnode.contracts.host import HOST
from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.contracts.simulator import (
    HYPERVISOR,
    NOT_SIMULATED,
    ClearFaults,
    Fault,
    Faults,
    GetFaults,
    SimulateFault,
)
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller
from mgmtnode.jobs.once import Once
from mgmtnode.service import NodeContext, Service, handler
from services.simulator.agent import SimulatedAgent
from services.simulator.config import ANSWER_SECONDS, COMMAND_SECONDS, DELAY_MS, MIGRATION_MS
from services.simulator.driver import Patience, SimulatorDriver
from services.simulator.hosts import FILE, SCHEME, SimulatedHosts, named
from services.simulator.reach import configured

R = TypeVar("R")
MIGRATIONS = (VmAction.MIGRATE, VmAction.MIGRATE_BACK)


class SimulatorService(Service):
    """The hosts of this process come to life with the first question to one of them; a node that has none opens no
    file."""

    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self._reach = configured(node.properties)
        self.driver = SimulatorDriver(
            node.agents,
            node.clock,
            self._patience,
            endpoint=self._reach.endpoint,
            delay_ms=self._delay_ms,
        )
        self._hosts: SimulatedHosts | None = None
        node.agents.serve(SCHEME, self.find)

    async def start(self) -> None:
        """Raises ConfigFileError where nodes of a cluster would each believe in simulated hosts of their own."""
        if self._reach.split and await self.node.db.read(self._any_host):
            raise ConfigFileError(
                "there are simulated hosts, bus.url is set, and simulator.agents_url is not: each node of the cluster "
                "would simulate them anew. Run one 'python -m services.simulator' (with the simulator.db of the node "
                "that had them, to keep their VMs) and set simulator.agents_url on every node"
            )

    def _any_host(self, tx: Tx) -> bool:
        return bool(self.node.query.find(tx, HOST, f"hypervisor={HYPERVISOR}", limit=1))

    async def stop(self) -> None:
        if self._hosts is not None:
            await self._hosts.close()

    @handler()
    async def simulate(self, msg: SimulateFault, caller: Caller) -> Faults:
        async def rehearse() -> Faults:
            return Faults(faults=[*(await self._ask(msg.uuid, "faults")).faults, msg.fault])

        return await self._once(msg, caller, lambda: self._ask(msg.uuid, "fault", msg.fault), rehearse)

    @handler()
    async def clear(self, msg: ClearFaults, caller: Caller) -> Nothing:
        async def ask(question: str) -> Nothing:
            await self._ask(msg.uuid, question)
            return NOTHING

        return await self._once(msg, caller, lambda: ask("clear-faults"), lambda: ask("faults"))

    @handler()
    async def faults(self, msg: GetFaults, caller: Caller) -> Faults:
        return await self._ask(msg.uuid, "faults")

    async def _once(
        self,
        msg: SimulateFault | ClearFaults,
        caller: Caller,
        work: Callable[[], Awaitable[R]],
        rehearse: Callable[[], Awaitable[R]],
    ) -> R:
        """The host is told before it is written down that it was: after a crash in between it is told again."""
        once: Once[R] = Once(self.node.uuids, msg, caller, HOST.type)
        answer = await self.node.db.write(once.seen)
        if answer is None:
            answer = await (rehearse if once.dry_run else work)()
        return await self.node.db.write(lambda tx: once.do(tx, msg.uuid, lambda: answer))

    async def _ask(self, host_uuid: str, question: str, fault: Fault | None = None) -> Faults:
        host = await self.node.db.read(lambda tx: self.node.query.get(tx, HOST, host_uuid))
        if host.hypervisor != HYPERVISOR:
            raise NOT_SIMULATED.error(f"host {host.name} is a {host.hypervisor} host", resource=host.uuid)
        body = msgspec.to_builtins(fault) if fault else {}
        timeout = self._patience().answer
        faults = await self.node.agents.ask(
            self._reach.endpoint(host.management_ip), question, body, timeout=timeout
        )
        return Faults(faults=msgspec.convert(faults, list[Fault]))

    def find(self, address: str) -> SimulatedAgent:
        """The agent at ``sim://…``: what the node's agents port talks to."""
        if self._hosts is None:
            path = Path(self.node.properties.get(DATA_DIR)) / FILE
            self._hosts = SimulatedHosts(path, self.node.rng, self.node.uuids)
        return self._hosts.find(named(address))

    def _delay_ms(self, action: VmAction) -> int:
        return self.node.config.get(MIGRATION_MS if action in MIGRATIONS else DELAY_MS)

    def _patience(self) -> Patience:
        config = self.node.config
        return Patience(answer=config.get(ANSWER_SECONDS), command=config.get(COMMAND_SECONDS))
