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
from services.vm.flows.host_command import VmContext, command, hosts, load, on_host, result, seal, spec_of
from services.vm.state import check_allowed

if TYPE_CHECKING:
    from services.vm.service import VmService

MAX_NICS = 8


class ResizeContext(VmContext, kw_only=True):
    msg: ChangeVmOffering
    old: tuple[int, int] = (0, 0)
    new: tuple[int, int] = (0, 0)


def hold(tx: Tx, context: VmContext, size: tuple[int, int], *, force: bool = False) -> None:
    """Makes the VM hold exactly this much of its host, and of its account's quota."""
    cpu, memory = size
    amounts = {"vm.cpu": cpu, "vm.memory": memory}
    tx.call(ReleaseQuota(resource_uuid=context.uuid, names=list(amounts)))
    tx.call(
        ReserveQuota(account_uuid=owner_of(tx, context.uuid), resource_uuid=context.uuid, amounts=amounts)
    )
    if context.host_uuid:
        tx.call(ReturnHost(vm_uuid=context.uuid))
        tx.call(
            ReserveOnHost(
                vm_uuid=context.uuid, host_uuid=context.host_uuid, cpu=cpu, memory=memory, force=force
            )
        )


def grow(service: VmService, tx: Tx, context: ResizeContext) -> None:
    vm = load(service, tx, context)
    check_allowed("change-offering", vm.state, vm.uuid)
    size = service.size_of(tx, context.msg.instance_offering_uuid, context.msg.cpu, context.msg.memory)
    context.old, context.new = (vm.cpu, vm.memory), (size.cpu, size.memory)
    hold(tx, context, context.new)
    assert context.spec is not None
    context.spec = msgspec.structs.replace(context.spec, cpu=size.cpu, memory=size.memory)


def shrink_back(service: VmService, tx: Tx, context: ResizeContext) -> None:
    hold(tx, context, context.old, force=True)


async def resize(service: VmService, job: JobHandle, context: ResizeContext) -> None:
    await command(service, context, VmAction.RESIZE)


async def resize_back(service: VmService, job: JobHandle, context: ResizeContext) -> None:
    assert context.spec is not None
    cpu, memory = context.old
    context.spec = msgspec.structs.replace(context.spec, cpu=cpu, memory=memory)
    await command(service, context, VmAction.RESIZE)


def record_size(service: VmService, tx: Tx, context: ResizeContext) -> None:
    cpu, memory = context.new
    offering = context.msg.instance_offering_uuid
    service.vms.change(tx, context.uuid, cpu=cpu, memory=memory, instance_offering_uuid=offering)
    tx.record(VmChanged(resource_uuid=context.uuid, fields=["cpu", "memory", "instance_offering_uuid"]))


CHANGE_OFFERING = Flow(
    "vm.change-offering",
    (
        TxStep("reserve", run=grow, undo=shrink_back),
        Step("resize on the host", run=resize, undo=resize_back, when=on_host),
        TxStep("record", run=record_size),
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
    tx.call(RemoveNic(vm_uuid=context.uuid, nic_uuid=context.nic_uuid))


async def plug(service: VmService, job: JobHandle, context: VmContext) -> None:
    await command(service, context, VmAction.ATTACH_NIC)


async def unplug(service: VmService, job: JobHandle, context: VmContext) -> None:
    await command(service, context, VmAction.DETACH_NIC)


def record_nics(service: VmService, tx: Tx, context: VmContext) -> None:
    tx.record(VmChanged(resource_uuid=context.uuid, fields=["nics"]))


ATTACH_NIC: Flow[VmService, AttachContext, Vm] = Flow(
    "vm.attach-nic",
    (
        TxStep("take an address", run=add_nic, undo=drop_nic),
        Step("attach on the host", run=plug, undo=unplug, when=on_host),
        TxStep("record", run=record_nics),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)


def check_nic(service: VmService, tx: Tx, context: VmContext) -> None:
    nic = context.nic_uuid
    vm = load(service, tx, context)
    check_allowed("detach-nic", vm.state, vm.uuid)
    if nic not in [n.uuid for n in vm.nics]:
        raise VM_NO_SUCH_NIC.error(f"the VM has no NIC {nic}", resource=vm.uuid)
    context.spec = spec_of(vm)


def release_nic(service: VmService, tx: Tx, context: VmContext) -> None:
    tx.call(RemoveNic(vm_uuid=context.uuid, nic_uuid=context.nic_uuid))
    record_nics(service, tx, context)


DETACH_NIC: Flow[VmService, VmContext, Vm] = Flow(
    "vm.detach-nic",
    (
        TxStep("check", run=check_nic),
        Step("detach on the host", run=unplug, undo=plug, when=on_host),
        TxStep("give the address back", run=release_nic),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)
