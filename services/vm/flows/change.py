"""Changing what a VM has while it may be running: its size and its NICs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mgmtnode.contracts.allocator import ReserveOnHost, ReturnHost
from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.contracts.nic import CreateNic, RemoveNic
from mgmtnode.contracts.quota import ReleaseQuota, ReserveQuota
from mgmtnode.contracts.vm import AttachNic, ChangeVmOffering, Vm
from mgmtnode.contracts.vm_events import VM_NO_SUCH_NIC, VM_TOO_MANY_NICS, VmChanged
from mgmtnode.db.resource import owner_of
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.vm.flows.host_command import VmContext, command, hosts, load, on_host, result, seal, take_back
from services.vm.state import check_allowed

if TYPE_CHECKING:
    from services.vm.service import VmService

MAX_NICS = 8


class ResizeContext(VmContext, kw_only=True):
    """Sizes are (cpu, memory)."""

    msg: ChangeVmOffering
    old: tuple[int, int] = (0, 0)
    new: tuple[int, int] = (0, 0)


def take(tx: Tx, context: VmContext, size: tuple[int, int], *, force: bool = False) -> None:
    """Reserves this much more for the VM. Raises quota.exceeded, allocator.no-host."""
    cpu, memory = size
    amounts = {name: n for name, n in (("vm.cpu", cpu), ("vm.memory", memory)) if n}
    account = owner_of(tx, context.uuid)
    tx.call(ReserveQuota(account_uuid=account, resource_uuid=context.uuid, amounts=amounts, force=force))
    if context.host_uuid:
        tx.call(
            ReserveOnHost(
                vm_uuid=context.uuid, host_uuid=context.host_uuid, cpu=cpu, memory=memory, force=force
            )
        )


def hold(tx: Tx, context: VmContext, size: tuple[int, int]) -> None:
    """Makes the VM hold exactly this much. It held that before, or more: never refused."""
    tx.call(ReleaseQuota(resource_uuid=context.uuid, names=["vm.cpu", "vm.memory"]))
    tx.call(ReturnHost(vm_uuid=context.uuid))
    take(tx, context, size, force=True)


def grow(service: VmService, tx: Tx, context: ResizeContext) -> None:
    """Reserves what the new size has more than the old one; what it has less is given back at the end."""
    vm = load(service, tx, context)
    check_allowed("change-offering", vm.state, vm.uuid)
    size = service.size_of(tx, context.msg.instance_offering_uuid, context.msg.cpu, context.msg.memory)
    context.old, context.new = (vm.cpu, vm.memory), (size.cpu, size.memory)
    take(tx, context, (max(0, size.cpu - vm.cpu), max(0, size.memory - vm.memory)))
    assert context.spec is not None
    context.spec = msgspec.structs.replace(context.spec, cpu=size.cpu, memory=size.memory)


def keep(service: VmService, tx: Tx, context: ResizeContext) -> None:
    """The old size again; where nobody knows which one the VM has, the larger."""
    if not context.uncertain:
        hold(tx, context, context.old)
        return
    (old_cpu, old_memory), (new_cpu, new_memory) = context.old, context.new
    larger = (max(old_cpu, new_cpu), max(old_memory, new_memory))
    hold(tx, context, larger)
    if larger != context.old:
        record(service, tx, context, larger)


async def resize(service: VmService, job: JobHandle, context: ResizeContext) -> None:
    await command(service, context, VmAction.RESIZE)


async def resize_back(service: VmService, job: JobHandle, context: ResizeContext) -> None:
    assert context.spec is not None
    cpu, memory = context.old
    context.spec = msgspec.structs.replace(context.spec, cpu=cpu, memory=memory)
    context.uncertain = True
    await take_back(service, context, VmAction.RESIZE)
    context.uncertain = False


def settle(service: VmService, tx: Tx, context: ResizeContext) -> None:
    hold(tx, context, context.new)
    record(service, tx, context, context.new)


def record(service: VmService, tx: Tx, context: ResizeContext, size: tuple[int, int]) -> None:
    cpu, memory = size
    offering = context.msg.instance_offering_uuid if size == context.new else None
    service.vms.change(tx, context.uuid, cpu=cpu, memory=memory, instance_offering_uuid=offering)
    tx.record(VmChanged(resource_uuid=context.uuid, fields=["cpu", "memory", "instance_offering_uuid"]))


CHANGE_OFFERING: Flow[VmService, ResizeContext, Vm] = Flow(
    "vm.change-offering",
    (
        TxStep("reserve", run=grow, undo=keep),
        Step("resize on the host", run=resize, undo=resize_back, when=on_host, owes=False),
        TxStep("record", run=settle),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)


class AttachContext(VmContext, kw_only=True):
    msg: AttachNic


def add_nic(service: VmService, tx: Tx, context: AttachContext) -> None:
    vm = service.vms.inventory(tx, context.uuid)
    check_allowed("attach-nic", vm.state, vm.uuid)
    if len(vm.nics) >= MAX_NICS:
        raise VM_TOO_MANY_NICS.error(f"the VM has {len(vm.nics)} NICs already", resource=vm.uuid)
    assert context.nic_uuid is not None
    msg = context.msg
    tx.call(
        CreateNic(
            nic_uuid=context.nic_uuid,
            vm_uuid=vm.uuid,
            account_uuid=owner_of(tx, vm.uuid),
            l3_network_uuid=msg.l3_network_uuid,
            device_index=service.next_device(tx, vm.uuid),
            ip=msg.ip,
            mac=msg.mac,
        )
    )
    load(service, tx, context)


def drop_nic(service: VmService, tx: Tx, context: AttachContext) -> None:
    """Where nobody knows whether the guest has the NIC, it stays, with its address: detaching it can be tried again."""
    if context.uncertain:
        record_nics(service, tx, context)
        return
    tx.call(RemoveNic(vm_uuid=context.uuid, nic_uuid=context.nic_uuid))


async def plug(service: VmService, job: JobHandle, context: VmContext) -> None:
    await command(service, context, VmAction.ATTACH_NIC)


async def unplug(service: VmService, job: JobHandle, context: VmContext) -> None:
    context.uncertain = True
    await command(service, context, VmAction.DETACH_NIC)
    context.uncertain = False


async def unplug_again(service: VmService, job: JobHandle, context: VmContext) -> None:
    context.uncertain = True
    await take_back(service, context, VmAction.DETACH_NIC)
    context.uncertain = False


async def plug_again(service: VmService, job: JobHandle, context: VmContext) -> None:
    await take_back(service, context, VmAction.ATTACH_NIC)


def record_nics(service: VmService, tx: Tx, context: VmContext) -> None:
    tx.record(VmChanged(resource_uuid=context.uuid, fields=["nics"]))


ATTACH_NIC: Flow[VmService, AttachContext, Vm] = Flow(
    "vm.attach-nic",
    (
        TxStep("take an address", run=add_nic, undo=drop_nic),
        Step("attach on the host", run=plug, undo=unplug_again, when=on_host, owes=False),
        TxStep("record", run=record_nics),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)


def check_nic(service: VmService, tx: Tx, context: VmContext) -> None:
    vm = load(service, tx, context)
    check_allowed("detach-nic", vm.state, vm.uuid)
    if context.nic_uuid not in [nic.uuid for nic in vm.nics]:
        raise VM_NO_SUCH_NIC.error(f"the VM has no NIC {context.nic_uuid}", resource=vm.uuid)


def release_nic(service: VmService, tx: Tx, context: VmContext) -> None:
    tx.call(RemoveNic(vm_uuid=context.uuid, nic_uuid=context.nic_uuid))
    record_nics(service, tx, context)


DETACH_NIC: Flow[VmService, VmContext, Vm] = Flow(
    "vm.detach-nic",
    (
        TxStep("check", run=check_nic),
        Step("detach on the host", run=unplug, undo=plug_again, when=on_host, owes=False),
        TxStep("give the address back", run=release_nic),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)
