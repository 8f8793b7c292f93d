"""A simulated VM, and what each action makes of it: pure functions."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mgmtnode.contracts.hypervisor import NicSpec, VmAction, VmCommand, VmOnHost, VmPower, VmSpec
from mgmtnode.contracts.simulator import BAD_POWER, NO_VM

ALIVE = (VmPower.RUNNING, VmPower.PAUSED)
HOLDING = (*ALIVE, VmPower.INCOMING)


class SimulatedVm(msgspec.Struct, frozen=True):
    """A VM on one host. ``boots`` counts how often it was started or rebooted there."""

    spec: VmSpec
    power: VmPower
    boots: int = 0

    @property
    def held(self) -> int:
        """Bytes of the host's memory it takes."""
        return self.spec.memory if self.power in HOLDING else 0

    def shown(self) -> VmOnHost:
        return VmOnHost(uuid=self.spec.uuid, power=self.power, cpu=self.spec.cpu, memory=self.spec.memory)


def start(vm: SimulatedVm | None, command: VmCommand) -> SimulatedVm:
    if vm is not None and vm.power is VmPower.RUNNING:
        return vm
    return SimulatedVm(command.vm, VmPower.RUNNING, (vm.boots if vm else 0) + 1)


def gone(vm: SimulatedVm | None, command: VmCommand) -> None:
    return None


def reboot(vm: SimulatedVm | None, command: VmCommand) -> SimulatedVm:
    vm = _here(vm, command, *ALIVE, VmPower.CRASHED)
    return SimulatedVm(vm.spec, VmPower.RUNNING, vm.boots + 1)


def pause(vm: SimulatedVm | None, command: VmCommand) -> SimulatedVm:
    return msgspec.structs.replace(_here(vm, command, *ALIVE), power=VmPower.PAUSED)


def resume(vm: SimulatedVm | None, command: VmCommand) -> SimulatedVm:
    return msgspec.structs.replace(_here(vm, command, *ALIVE), power=VmPower.RUNNING)


def resize(vm: SimulatedVm | None, command: VmCommand) -> SimulatedVm:
    return _with_spec(_here(vm, command, *ALIVE), cpu=command.vm.cpu, memory=command.vm.memory)


def attach_nic(vm: SimulatedVm | None, command: VmCommand) -> SimulatedVm:
    vm = _here(vm, command, *ALIVE)
    added = [nic for nic in command.vm.nics if nic.uuid == command.nic_uuid]
    return _with_spec(vm, nics=_other_nics(vm, command) + added)


def detach_nic(vm: SimulatedVm | None, command: VmCommand) -> SimulatedVm | None:
    return None if vm is None else _with_spec(vm, nics=_other_nics(vm, command))


def prepare(vm: SimulatedVm | None, command: VmCommand) -> SimulatedVm:
    return vm if vm is not None and vm.power in HOLDING else SimulatedVm(command.vm, VmPower.INCOMING)


CHANGES: dict[VmAction, Callable[[SimulatedVm | None, VmCommand], SimulatedVm | None]] = {
    VmAction.START: start,
    VmAction.STOP: gone,
    VmAction.DESTROY: gone,
    VmAction.REBOOT: reboot,
    VmAction.PAUSE: pause,
    VmAction.RESUME: resume,
    VmAction.RESIZE: resize,
    VmAction.ATTACH_NIC: attach_nic,
    VmAction.DETACH_NIC: detach_nic,
    VmAction.PREPARE_MIGRATION: prepare,
}


def _here(vm: SimulatedVm | None, command: VmCommand, *powers: VmPower) -> SimulatedVm:
    if vm is None:
        raise NO_VM.error(f"VM {command.vm.uuid} is not on this host", resource=command.vm.uuid)
    if vm.power not in powers:
        raise BAD_POWER.error(f"VM {command.vm.uuid} is {vm.power}", resource=command.vm.uuid)
    return vm


def _with_spec(vm: SimulatedVm, **changes: object) -> SimulatedVm:
    return msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, **changes))


def _other_nics(vm: SimulatedVm, command: VmCommand) -> list[NicSpec]:
    return [nic for nic in vm.spec.nics if nic.uuid != command.nic_uuid]
