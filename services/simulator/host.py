"""One simulated host: the hypervisor behind a command register, with CPUs, memory and VMs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mgmtnode.agents.backend import ABSENT, Settled
from mgmtnode.agents.port import UNKNOWN
from mgmtnode.contracts.hypervisor import VmAction, VmCommand, VmOnHost, VmPower
from mgmtnode.contracts.simulator import NO_MEMORY, NO_VM, NOT_PREPARED, TOO_MANY_CPUS, UNTOLD
from mgmtnode.errors import ApiError
from services.simulator.faults import HostFaults
from services.simulator.pace import Pace, PacedCommand
from services.simulator.repository import SimulatedRepository
from services.simulator.vm import ALIVE, CHANGES, SimulatedVm

Peers = Callable[[str], "SimulatedHost"]


class SimulatedHost:
    """A command takes the time that ``pace`` says; its effect is one synchronous change at the end of it.
    ``peer(name)`` finds the other end of a migration."""

    def __init__(
        self, name: str, repository: SimulatedRepository, faults: HostFaults, *, pace: Pace, peer: Peers
    ) -> None:
        self.name, self.faults = name, faults
        self.cpu, self.memory = 0, 0
        self._repository, self._pace, self._peer = repository, pace, peer
        self._vms = repository.vms(name)
        self._held = sum(vm.held for vm in self._vms.values())

    @property
    def memory_free(self) -> int:
        return self.memory - self._held

    def declare(self, cpu: int, memory: int) -> None:
        """How large the host is. VMs that are there stay, also when it shrinks below them."""
        if (cpu, memory) != (self.cpu, self.memory):
            self.cpu, self.memory = cpu, memory
            self._repository.save_host(self.name, cpu, memory)

    def find(self, uuid: str) -> SimulatedVm | None:
        return self._vms.get(uuid)

    def inventory(self) -> list[VmOnHost]:
        return [vm.shown() for vm in self._vms.values()]

    def crash(self, uuid: str) -> None:
        vm = self._vms.get(uuid)
        if vm is None:
            raise NO_VM.error(f"VM {uuid} is not on {self.name}", resource=uuid)
        self._put(uuid, msgspec.structs.replace(vm, power=VmPower.CRASHED))

    async def perform(self, action: str, resource: str, args: dict[str, Any]) -> Any:
        command = _parse(action, args)
        await self.faults.work(action, lambda: self._pace.seconds(command))
        uuid = command.vm.uuid
        if command.action is VmAction.MIGRATE:
            self._migrate(uuid, self._peer_of(command))
        elif command.action is VmAction.MIGRATE_BACK:
            self._migrate_back(uuid, self._peer_of(command))
        else:
            self._put(uuid, self._fitting(CHANGES[command.action](self._vms.get(uuid), command)))

    async def probe(self, action: str, resource: str, args: dict[str, Any]) -> Settled:
        command = _parse(action, args)
        uuid = command.vm.uuid
        vm = self._vms.get(uuid)
        if command.action is VmAction.REBOOT and vm is not None:
            what = f"the agent died while it rebooted VM {uuid}; reboot it again if it matters"
            return Settled(happened=True, problem=UNTOLD.error(what, resource=uuid).problem)
        if command.action is VmAction.MIGRATE:
            there = self._peer_of(command).find(uuid)
            return Settled(happened=vm is None and _alive(there))
        if command.action is VmAction.MIGRATE_BACK:
            return Settled(happened=vm is not None)
        return Settled(happened=True) if self._there(command, vm) else ABSENT

    def _there(self, command: VmCommand, vm: SimulatedVm | None) -> bool:
        """Whether doing it now would change nothing."""
        if vm is None:
            return command.action in (VmAction.STOP, VmAction.DESTROY, VmAction.DETACH_NIC)
        try:
            return CHANGES[command.action](vm, command) == vm
        except ApiError:  # refused: that is for the command itself to say
            return False

    def _migrate(self, uuid: str, peer: SimulatedHost) -> None:
        vm, there = self._vms.get(uuid), peer.find(uuid)
        if vm is None and _alive(there):
            return
        if vm is None or not _alive(vm):
            raise NO_VM.error(f"VM {uuid} does not run on {self.name}", resource=uuid)
        if there is None or there.power is not VmPower.INCOMING:
            raise NOT_PREPARED.error(f"{peer.name} expects no VM {uuid}", resource=uuid)
        self._hand_to(peer, vm)

    def _migrate_back(self, uuid: str, peer: SimulatedHost) -> None:
        there = peer.find(uuid)
        if uuid not in self._vms and there is not None and _alive(there):
            self._fitting(there)
            peer._hand_to(self, there)

    def _hand_to(self, peer: SimulatedHost, vm: SimulatedVm) -> None:
        """Both rows go into one commit: the VM is never on two hosts, nor on none."""
        peer._put(vm.spec.uuid, vm)
        self._put(vm.spec.uuid, None)

    def _peer_of(self, command: VmCommand) -> SimulatedHost:
        if command.peer is None:
            raise UNKNOWN.error("a migration needs a peer", resource=command.vm.uuid)
        peer = self._peer(command.peer.management_ip)
        peer.faults.reachable()
        return peer

    def _fitting(self, vm: SimulatedVm | None) -> SimulatedVm | None:
        if vm is None:
            return None
        uuid, old = vm.spec.uuid, self._vms.get(vm.spec.uuid)
        more = vm.held - (old.held if old else 0)
        if more > 0 and more > self.memory_free:
            what = f"{self.name} has {self.memory_free} bytes left, VM {uuid} needs {more}"
            raise NO_MEMORY.error(what, resource=uuid)
        if vm.spec.cpu > self.cpu and (old is None or vm.spec.cpu > old.spec.cpu):
            what = f"{self.name} has {self.cpu} CPUs, VM {uuid} wants {vm.spec.cpu}"
            raise TOO_MANY_CPUS.error(what, resource=uuid)
        return vm

    def _put(self, uuid: str, vm: SimulatedVm | None) -> None:
        old = self._vms.pop(uuid, None)
        if vm is not None:
            self._vms[uuid] = vm
        self._held += (vm.held if vm else 0) - (old.held if old else 0)
        if vm is not old:
            self._repository.save_vm(self.name, uuid, vm)


def _alive(vm: SimulatedVm | None) -> bool:
    return vm is not None and vm.power in ALIVE


def _parse(action: str, args: dict[str, Any]) -> PacedCommand:
    try:
        return msgspec.convert(args, PacedCommand)
    except msgspec.ValidationError as exc:
        raise UNKNOWN.error(f"{action}: {exc}") from exc
