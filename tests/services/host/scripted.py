"""A service for tests: a hypervisor whose answers are scripted, and neighbours that note what they hear."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mgmtnode.agents.port import UNREACHABLE
from mgmtnode.bus.context import current
from mgmtnode.contracts.host import (
    AskAgain,
    Host,
    HostCapacityChanged,
    HostEvacuation,
    HostVmsReported,
    ReportedVm,
)
from mgmtnode.contracts.hypervisor import (
    HostAddress,
    HostFacts,
    HostReport,
    HypervisorDriver,
    PerformOnHost,
    SealedVm,
    VmAction,
    VmCommand,
    VmOnHost,
    VmSpec,
)
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.extension.point import Extension
from mgmtnode.loader import GROUP
from mgmtnode.service import NodeContext, Service, ServiceManifest
from mgmtnode.workflow.handle import JobHandle

GIB = 1 << 30


@dataclass
class Script:
    """What the hosts do, by address, and what they were asked. One per test."""

    down: set[str] = field(default_factory=set)
    identity: dict[str, str] = field(default_factory=dict)
    vms: dict[str, list[VmOnHost]] = field(default_factory=dict)
    fail: dict[str, ApiError] = field(default_factory=dict)  # by what is asked: connect, evacuate, capacity
    hold: set[str] = field(default_factory=set)
    crash: set[str] = field(default_factory=set)  # what raises something that is no ApiError
    registers: dict[str, dict[str, int]] = field(default_factory=dict)  # by address: VM → fence
    cpu: int = 8
    calls: list[tuple[str, str]] = field(default_factory=list)
    commands: list[tuple[str, VmCommand, Any]] = field(default_factory=list)
    heard: list[tuple[str, Any]] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def asked(self, what: str, address: HostAddress) -> None:
        self.calls.append((what, address.management_ip))
        if address.management_ip in self.down:
            raise UNREACHABLE.error(f"{address.management_ip} does not answer")
        self.check(what)

    def heal(self) -> None:
        """Nothing fails, hangs or is out of reach any more."""
        for faults in (self.down, self.identity, self.fail, self.hold, self.crash):
            faults.clear()

    def check(self, what: str) -> None:
        if what in self.crash:
            raise RuntimeError(f"{what}: the driver has a bug")
        if error := self.fail.get(what):
            raise error

    async def held(self, what: str) -> None:
        while what in self.hold:
            await asyncio.sleep(0.005)

    def said(self, what: str) -> list[Any]:
        return [value for name, value in self.heard if name == what]


SCRIPT = Script()


def fresh() -> Script:
    """The script of a new test."""
    SCRIPT.__dict__.update(Script().__dict__)
    return SCRIPT


def vm_command(host_uuid: str, vm_uuid: str, action: VmAction = VmAction.START) -> PerformOnHost:
    """A command to a host, about a VM of the smallest size."""
    spec = VmSpec(uuid=vm_uuid, name="vm", cpu=1, memory=GIB)
    return PerformOnHost(host_uuid=host_uuid, command=VmCommand(action=action, vm=spec))


class ScriptedDriver:
    async def connect(self, host: HostAddress) -> HostFacts:
        SCRIPT.asked("connect", host)
        await SCRIPT.held("connect")
        identity = SCRIPT.identity.get(host.management_ip, f"agent of {host.management_ip}")
        return HostFacts(cpu=SCRIPT.cpu, memory=64 * GIB, identity=identity, version="1.0")

    async def report(self, host: HostAddress) -> HostReport:
        SCRIPT.asked("report", host)
        await SCRIPT.held("report")
        identity = SCRIPT.identity.get(host.management_ip, f"agent of {host.management_ip}")
        return HostReport(identity=identity, vms=SCRIPT.vms.get(host.management_ip, []))

    async def perform(self, host: HostAddress, command: VmCommand) -> None:
        SCRIPT.commands.append((host.management_ip, command, current.get().work))
        SCRIPT.running[host.management_ip] += 1
        SCRIPT.most[host.management_ip] = max(
            SCRIPT.most[host.management_ip], SCRIPT.running[host.management_ip]
        )
        try:
            SCRIPT.asked("perform", host)
            await SCRIPT.held("perform")
        finally:
            SCRIPT.running[host.management_ip] -= 1

    async def seal(self, host: HostAddress, vm_uuid: str, fence: int) -> SealedVm:
        SCRIPT.asked("seal", host)
        return SealedVm(order=(1, 2, fence), state="DONE")

    async def ended(self, host: HostAddress, floor: int, *, after: str, limit: int) -> dict[str, int]:
        SCRIPT.asked("ended", host)
        there = sorted(SCRIPT.registers.get(host.management_ip, {}).items())
        return dict([item for item in there if item[0] > after][:limit])

    async def forget(self, host: HostAddress, floor: int, registers: dict[str, int]) -> int:
        SCRIPT.asked("forget", host)
        SCRIPT.heard.append(("forget", (host.management_ip, registers)))
        return len(registers)

    async def disconnect(self, host: HostAddress) -> None:
        SCRIPT.asked("disconnect", host)


class Neighbour:
    """Implements the host service's extension points."""

    def capacity_known(self, tx: Tx, host: Host) -> None:
        SCRIPT.check("capacity")
        SCRIPT.heard.append(("capacity", (host.uuid, host.cpu, host.memory)))

    def capacity_gone(self, tx: Tx, host_uuid: str) -> None:
        SCRIPT.heard.append(("capacity gone", host_uuid))

    async def evacuate(self, job: JobHandle, host: Host) -> None:
        SCRIPT.heard.append(("evacuate", (host.uuid, host.state)))
        await SCRIPT.held("evacuate")
        SCRIPT.check("evacuate")

    async def vms_reported(self, host: Host, vms: list[ReportedVm], again: AskAgain) -> None:
        SCRIPT.check("vms_reported")
        SCRIPT.heard.append(("vms", (host.uuid, [vm.uuid for vm in vms])))

    async def vms_unknown(self, host: Host) -> None:
        SCRIPT.check("vms_unknown")
        SCRIPT.heard.append(("unknown", host.uuid))


class ScriptedService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.driver, self.neighbour = ScriptedDriver(), Neighbour()


def _driver(service: ScriptedService) -> ScriptedDriver:
    return service.driver


def _neighbour(service: ScriptedService) -> Neighbour:
    return service.neighbour


manifest = ServiceManifest(
    id="scripted",
    summary="A hypervisor that does as the test says",
    service=ScriptedService,
    requires=("host",),
    extensions=(
        Extension(point=HypervisorDriver, make=_driver, key="scripted"),
        Extension(point=HostCapacityChanged, make=_neighbour),
        Extension(point=HostEvacuation, make=_neighbour),
        Extension(point=HostVmsReported, make=_neighbour),
    ),
)


class _Here(EntryPoint):
    """This module has no name to import it by."""

    def load(self) -> ServiceManifest:
        return manifest


def points(*services: str) -> list[EntryPoint]:
    """The installed services of these names, and the scripted hypervisor."""
    installed = [point for point in entry_points(group=GROUP) if point.name in services]
    return [*installed, _Here("scripted", "tests:manifest", GROUP)]
