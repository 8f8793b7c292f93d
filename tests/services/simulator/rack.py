"""A rack of simulated hosts, the work of a job on a VM, and the driver between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mgmtnode.agents.local import LocalAgents
from mgmtnode.bus.context import CallContext, current
from mgmtnode.contracts.hypervisor import (
    HostAddress,
    HostReport,
    NicSpec,
    VmAction,
    VmCommand,
    VmPower,
    VmSpec,
)
from mgmtnode.contracts.simulator import Fault
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import WorkToken
from mgmtnode.ports import SystemClock, SystemRng, UuidSource
from services.simulator.driver import Patience, SimulatorDriver
from services.simulator.hosts import SimulatedHosts, endpoint, named

GIB = 1 << 30


def uuid(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012d}"


class Rack:
    """``do`` orders as a job would: each time with an order above the last."""

    def __init__(self, directory: Path, *, answer: float = 2.0, command: float = 2.0) -> None:
        self.path = directory / "simulator.db"
        self.delay_ms = 0
        self.run_no = 0
        self.patience = Patience(answer=answer, command=command)
        self.endpoint: Callable[[str], str] = endpoint
        self.power_on()

    def power_on(self) -> None:
        rng = SystemRng()
        uuids = UuidSource(SystemClock(), rng)
        self.hosts = SimulatedHosts(self.path, rng, uuids)
        self.agents = LocalAgents()
        self.agents.serve("sim", lambda endpoint: self.hosts.find(named(endpoint)))
        self.driver = SimulatorDriver(
            self.agents, SystemClock(), lambda: self.patience, delay_ms=lambda action: self.delay_ms
        )

    async def restart(self) -> None:
        """The process dies and comes back: only the file is left."""
        await self.hosts.close()
        self.power_on()

    async def host(self, name: str, *, cpu: int = 8, memory: int = 8 * GIB) -> HostAddress:
        address = HostAddress(
            uuid=uuid(900),
            hypervisor="simulator",
            management_ip=name,
            parameters={"cpu": cpu, "memory": memory},
        )
        await self.driver.connect(address)
        return address

    async def do(
        self, host: HostAddress, action: VmAction, vm: VmSpec, *, run_no: int = 0, fence: int = 1, **more: Any
    ) -> None:
        """``run_no`` repeats an earlier order; ``resource`` makes it the work of a job on something else."""
        self.run_no += 1
        work = WorkToken(
            job_uuid=uuid(0),
            resource_uuid=more.pop("resource", vm.uuid),
            account_uuid=uuid(0),
            run_no=run_no or self.run_no,
            step=1,
            attempt=1,
            fence=fence,
        )
        token = current.set(CallContext(work=work))
        try:
            await self.driver.perform(host, VmCommand(action=action, vm=vm, **more))
        finally:
            current.reset(token)

    async def fault(self, host: HostAddress, **fault: Any) -> None:
        body = msgspec.to_builtins(Fault(**fault))
        await self.agents.ask(self.endpoint(host.management_ip), "fault", body, timeout=1)

    async def clear(self, host: HostAddress) -> None:
        await self.agents.ask(self.endpoint(host.management_ip), "clear-faults", {}, timeout=1)

    async def report(self, host: HostAddress) -> HostReport:
        return await self.driver.report(host)

    async def powers(self, host: HostAddress) -> dict[str, VmPower]:
        return {vm.uuid: vm.power for vm in (await self.report(host)).vms}


def vm(number: int, *, cpu: int = 2, memory: int = GIB, nics: int = 0) -> VmSpec:
    cards = [NicSpec(uuid=uuid(100 * number + i), mac=f"fa:00:00:00:00:{i:02x}") for i in range(nics)]
    return VmSpec(uuid=uuid(number), name=f"vm-{number}", cpu=cpu, memory=memory, nics=cards)


async def refused(attempt: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await attempt
    return caught.value


async def failed(attempt: Awaitable[object]) -> str:
    """What the host said, under the hypervisor's error."""
    error = await refused(attempt)
    assert error.code in ("hypervisor.failed", "hypervisor.no-vm")
    assert error.problem.cause is not None
    return error.problem.cause.code


def tell(story: Callable[[Rack], Awaitable[None]], directory: Path, **patience: float) -> None:
    async def told() -> None:
        rack = Rack(directory, **patience)
        try:
            await asyncio.wait_for(story(rack), 20)
        finally:
            await rack.hosts.close()

    asyncio.run(told())
