"""The simulator: hosts that exist only in memory and one file, and the faults they can be told to have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import Api, ApiCall, Nothing
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import Data, Ref, Uuid

HYPERVISOR = "simulator"


class FaultKind(StrEnum):
    FAIL = "fail"  # the command fails without effect
    HANG = "hang"  # it does not end until the faults are cleared
    SLOW = "slow"  # it takes ``delay_ms``
    LOSE_REPLY = "lose-reply"  # it is done, and the connection breaks before the answer
    DISCONNECT = "disconnect"  # nothing reaches the host; VMs and running commands go on
    CRASH_VM = "crash-vm"  # at once: the VM ``vm_uuid`` dies
    REPLACE_DISK = "replace-disk"  # at once: the agent forgets all commands and gets another identity


class Fault(Data, frozen=True, kw_only=True):
    """``action``: a VM action (``start``), ``connect`` or ``report``; ``*`` is any. ``times``: how often it
    strikes, None until cleared. ``probability``: of striking, each time."""

    kind: FaultKind
    action: str = "*"
    times: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0
    delay_ms: Annotated[int, Meta(ge=0, le=86_400_000, description="Milliseconds")] = 0
    vm_uuid: Uuid | None = None


class Faults(Data, frozen=True, kw_only=True):
    """The faults a simulated host has now, in the order they were set."""

    faults: list[Fault]


class SimulateFault(ApiCall[Faults], frozen=True, kw_only=True):
    """Gives a simulated host a fault. Later faults do not replace earlier ones; the first that fits
    strikes."""

    api: ClassVar[Api] = Api(
        "simulator.fault",
        "POST",
        "/hosts/{uuid}/actions/simulate-fault",
        "Give a simulated host a fault",
        admin=True,
    )
    once: ClassVar[bool] = True

    uuid: Annotated[Uuid, Ref("host")]
    fault: Fault


class ClearFaults(ApiCall[Nothing], frozen=True, kw_only=True):
    """Takes all faults from a simulated host; what hangs goes on."""

    api: ClassVar[Api] = Api(
        "simulator.clear",
        "POST",
        "/hosts/{uuid}/actions/clear-faults",
        "Take all faults from a host",
        admin=True,
    )
    once: ClassVar[bool] = True

    uuid: Annotated[Uuid, Ref("host")]


class GetFaults(ApiCall[Faults], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "simulator.read",
        "GET",
        "/hosts/{uuid}/simulated-faults",
        "The faults of a simulated host",
        admin=True,
    )

    uuid: Annotated[Uuid, Ref("host")]


NOT_SIMULATED = ErrorCode("simulator.not-simulated", Category.INVALID, "the host is a real one")
NOT_SHARED = ErrorCode(
    "simulator.not-shared", Category.STATE, "the nodes of a cluster share no simulated hosts"
)
FAULT = ErrorCode("simulator.fault", Category.INTERNAL, "the host was told to fail")
NO_VM = ErrorCode("simulator.no-vm", Category.NOT_FOUND, "the VM is not on this host")
BAD_POWER = ErrorCode("simulator.bad-power", Category.STATE, "the VM's power state does not allow this")
NO_MEMORY = ErrorCode("simulator.no-memory", Category.NO_CAPACITY, "the host has too little memory left")
TOO_MANY_CPUS = ErrorCode(
    "simulator.too-many-cpus", Category.NO_CAPACITY, "the VM has more CPUs than the host"
)
NOT_PREPARED = ErrorCode(
    "simulator.not-prepared", Category.STATE, "the destination has made no room for the VM"
)
UNTOLD = ErrorCode(
    "simulator.untold", Category.INTERNAL, "the agent died in between; nobody can tell if it was done"
)
