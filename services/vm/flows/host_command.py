"""What all VM flows share: the context they journal, commands to hosts, and sealing the hosts after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.contracts.allocator import Placement
from mgmtnode.contracts.host import HOST, Host
from mgmtnode.contracts.hypervisor import (
    HYPERVISOR_NO_VM,
    HostAddress,
    NicSpec,
    PerformOnHost,
    SealOnHost,
    VmAction,
    VmCommand,
    VmSpec,
)
from mgmtnode.contracts.vm import Vm, VmState
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.workflow.flow import FlowContext, Sealed
from services.vm.config import COMMAND_TIMEOUT

if TYPE_CHECKING:
    from services.vm.service import VmService

PLACE = ("zone_uuid", "cluster_uuid", "host_uuid", "hypervisor")


class VmContext(FlowContext):
    """``before`` is the state the VM had; ``host_uuid`` the host that is told; ``peer_uuid`` the one it moves to.
    ``done``: there is nothing to do, which is success. ``uncertain``: an undo was begun on the host, and until it
    ends nobody knows how things stand there."""

    uuid: str
    before: VmState | None = None
    host_uuid: str | None = None
    peer_uuid: str | None = None
    spec: VmSpec | None = None
    nic_uuid: str | None = None
    done: bool = False
    uncertain: bool = False


def spec_of(vm: Vm) -> VmSpec:
    nics = [NicSpec(uuid=n.uuid, mac=n.mac, ip=n.ip, l3_network_uuid=n.l3_network_uuid) for n in vm.nics]
    return VmSpec(uuid=vm.uuid, name=vm.name, cpu=vm.cpu, memory=vm.memory, nics=nics)


def load(service: VmService, tx: Tx, context: VmContext) -> Vm:
    """Reads the VM and fills the context with what the steps will need of it."""
    vm = service.vms.inventory(tx, context.uuid)
    context.before, context.host_uuid, context.spec = vm.state, vm.host_uuid, spec_of(vm)
    return vm


def placement(found: Placement) -> dict[str, str]:
    """Where a VM is, as its row says it."""
    return {name: getattr(found, name) for name in PLACE}


def on_host(context: VmContext) -> bool:
    """Whether the host has to be told anything."""
    return context.host_uuid is not None and not context.done


async def command(
    service: VmService,
    context: VmContext,
    action: VmAction,
    *,
    host: str | None = None,
    peer: str | None = None,
) -> None:
    """Has the VM's host (or ``host``) do it, and waits until it is done. Raises what the host reports."""
    assert context.spec is not None
    target = host or context.host_uuid
    assert target is not None
    address = address_of(await find_host(service, peer)) if peer else None
    order = VmCommand(action=action, vm=context.spec, nic_uuid=context.nic_uuid, peer=address)
    timeout = float(service.node.config.get(COMMAND_TIMEOUT))
    await service.node.bus.call(PerformOnHost(host_uuid=target, command=order), timeout=timeout)


async def take_back(service: VmService, context: VmContext, action: VmAction) -> None:
    """The undo of a command. A VM that is not there any more has nothing to take back."""
    try:
        await command(service, context, action)
    except ApiError as exc:
        if exc.code != HYPERVISOR_NO_VM.id:
            raise


async def find_host(service: VmService, uuid: str) -> Host:
    found: Host = await service.node.db.read(lambda tx: service.node.query.get(tx, HOST, uuid))
    return found


def address_of(host: Host) -> HostAddress:
    return HostAddress(
        uuid=host.uuid,
        hypervisor=host.hypervisor,
        management_ip=host.management_ip,
        parameters=host.parameters,
    )


def hosts(context: VmContext) -> list[str]:
    """The hosts that may hold something of the VM."""
    return [host for host in (context.host_uuid, context.peer_uuid) if host]


async def seal(service: VmService, context: VmContext, fence: int) -> Sealed | None:
    """Seals the VM's register on each of them; returns the highest order any of them took."""
    highest: tuple[tuple[int, int, int], str] | None = None
    for host in hosts(context):
        sealed = await service.node.bus.call(SealOnHost(host_uuid=host, vm_uuid=context.uuid, fence=fence))
        if sealed.order is not None and (highest is None or tuple(sealed.order) > highest[0]):
            highest = (sealed.order, sealed.state or "STARTED")
    if highest is None:
        return None
    (run_no, step, _), state = highest
    return Sealed(run_no, step, state)


def result(service: VmService, tx: Tx, context: VmContext) -> Vm:
    return service.vms.inventory(tx, context.uuid)
