"""What the management plane needs of a hypervisor: one strategy, and the commands that VMs are driven by.

A VM is on a host only while it runs or is paused there; a stopped VM is on no host. Every command is idempotent by
the VM's uuid and carries the work token of its job to the host's ordered command register.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Protocol

from mgmtnode.bus.message import Internal, Route, by_resource
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.extension.point import strategy
from mgmtnode.schema import CpuCount, Data, IpAddress, MacAddress, Memory, Ref, Uuid


class VmAction(StrEnum):
    START = "start"  # define the VM and run it; already running is success
    STOP = "stop"  # shut it down in good order and forget it; not there is success
    DESTROY = "destroy"  # kill it and forget it, also a half-made or incoming one; not there is success
    REBOOT = "reboot"
    PAUSE = "pause"
    RESUME = "resume"
    RESIZE = "resize"  # new cpu and memory from the spec
    ATTACH_NIC = "attach_nic"  # the nic named by ``nic_uuid`` in the spec
    DETACH_NIC = "detach_nic"
    PREPARE_MIGRATION = "prepare_migration"  # on the destination: make room; undone by DESTROY there
    MIGRATE = "migrate"  # on the source: move to ``peer``; atomic for the VM; already there is success
    MIGRATE_BACK = "migrate_back"  # on the source: undo of MIGRATE, wherever the VM is by now


class VmPower(StrEnum):
    """What a host reports of a VM. One it does not report is not there."""

    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPED = "Stopped"
    CRASHED = "Crashed"
    INCOMING = "Incoming"


class NicSpec(Data):
    uuid: Uuid
    mac: MacAddress
    ip: IpAddress | None = None
    l3_network_uuid: Uuid | None = None
    vlan: int | None = None


class VmSpec(Data):
    """All a hypervisor has to know to run a VM. ``cpu`` counts virtual CPUs, ``memory`` is bytes."""

    uuid: Uuid
    name: str
    cpu: CpuCount
    memory: Memory
    nics: list[NicSpec] = []


class VmOnHost(Data):
    uuid: Uuid
    power: VmPower
    cpu: int = 0
    memory: int = 0


class HostAddress(Data):
    """How a driver reaches a host. ``parameters`` are the hypervisor's own (declared CPU and memory when simulated)."""

    uuid: Uuid
    hypervisor: str
    management_ip: str
    parameters: dict[str, Any] = {}


class HostFacts(Data):
    """What a host says of itself when it is connected. ``cpu`` in physical threads, ``memory`` in bytes. ``identity``
    changes when the agent's memory (its disk) was replaced."""

    cpu: int
    memory: int
    identity: str
    version: str = ""
    labels: dict[str, str] = {}


class HostReport(Data):
    """The answer to a ping: who answers and what runs there now."""

    identity: str
    vms: list[VmOnHost] = []


class VmCommand(Data):
    action: VmAction
    vm: VmSpec
    nic_uuid: Uuid | None = None
    peer: HostAddress | None = None


class SealedVm(Data):
    """The last command a host took for a VM: its order (run_no, step, attempt) and how it ended."""

    order: tuple[int, int, int] | None = None
    state: str | None = None


@strategy
class HypervisorDriver(Protocol):
    """One per hypervisor type, which is its key. Raises agent.unreachable when the host does not answer in time."""

    async def connect(self, host: HostAddress) -> HostFacts: ...

    async def report(self, host: HostAddress) -> HostReport: ...

    async def perform(self, host: HostAddress, command: VmCommand) -> None:
        """Orders the command with the current work token and waits for its end."""
        ...

    async def seal(self, host: HostAddress, vm_uuid: str, fence: int) -> SealedVm:
        """Raises the fence of the VM's register; waits for a running command."""
        ...

    async def ended(self, host: HostAddress, floor: int, *, after: str, limit: int) -> dict[str, int]:
        """VMs whose last command there has ended and was of a run below ``floor``, with the fence of their registers:
        the first ``limit`` uuids behind ``after``."""
        ...

    async def forget(self, host: HostAddress, floor: int, registers: dict[str, int]) -> int:
        """Drops the registers (VM → fence) of VMs that are no more; how many. All older runs are refused for ever, and
        what was fenced since it was looked at stays."""
        ...

    async def disconnect(self, host: HostAddress) -> None:
        """The host leaves the installation: close what was opened for it."""
        ...


class PerformOnHost(Internal[VmOnHost], frozen=True, kw_only=True):
    """Has a host do something to a VM, in the host's queue, a few at a time."""

    route: ClassVar[Route] = by_resource("host_uuid")
    timeout: ClassVar[float] = 86400.0

    host_uuid: Annotated[Uuid, Ref("host")]
    command: VmCommand


class SealOnHost(Internal[SealedVm], frozen=True, kw_only=True):
    route: ClassVar[Route] = by_resource("host_uuid")

    host_uuid: Annotated[Uuid, Ref("host")]
    vm_uuid: Annotated[Uuid, Ref("vm")]
    fence: int


HYPERVISOR_UNKNOWN = ErrorCode("hypervisor.unknown", Category.INVALID, "no service drives this hypervisor")
HYPERVISOR_FAILED = ErrorCode("hypervisor.failed", Category.UNAVAILABLE, "the hypervisor could not do it")
HYPERVISOR_NO_VM = ErrorCode("hypervisor.no-vm", Category.STATE, "the VM is not on the host")
