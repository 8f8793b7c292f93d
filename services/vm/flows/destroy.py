"""Destroying a VM: off its host, then kept for recovery or deleted for good, as the policy says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.allocator import ReturnHost
from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.contracts.vm import VmState
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.vm.config import DELETION_POLICY
from services.vm.flows.create import forget
from services.vm.flows.host_command import hosts, load, on_host, seal
from services.vm.flows.power import LeavingContext, owe, restore, take_off
from services.vm.state import check_allowed

if TYPE_CHECKING:
    from services.vm.service import VmService


class DestroyContext(LeavingContext):
    """``for_good``: not kept for recovery."""

    for_good: bool = False


def begin(service: VmService, tx: Tx, context: DestroyContext) -> None:
    vm = load(service, tx, context)
    check_allowed("destroy", vm.state, vm.uuid)
    # As part of a larger deletion nobody is left to recover it: its account goes.
    part = bool(tx.origin)
    context.for_good = context.for_good or part or service.node.config.get(DELETION_POLICY) == "Direct"
    if vm.state in (VmState.DESTROYED, VmState.DESTROYING):
        return
    service.vms.move(tx, service.vms.get(tx, vm.uuid), VmState.DESTROYING)


async def destroy_on_host(service: VmService, job: JobHandle, context: DestroyContext) -> None:
    await take_off(service, context, VmAction.DESTROY)


def end(service: VmService, tx: Tx, context: DestroyContext) -> None:
    owe(tx, context)
    row = service.vms.get(tx, context.uuid)
    if context.for_good:
        forget(service, tx, context)
        return
    if row.state == VmState.DESTROYED:
        return
    tx.call(ReturnHost(vm_uuid=context.uuid))
    last = row.host_uuid or row.last_host_uuid
    service.vms.move(tx, row, VmState.DESTROYED, host_uuid=None, last_host_uuid=last, destroyed_at=tx.now)


def nothing(service: VmService, tx: Tx, context: DestroyContext) -> Nothing:
    return NOTHING


DESTROY_VM = Flow(
    "vm.destroy",
    (
        TxStep("check", run=begin, undo=restore),
        Step("destroy on the host", run=destroy_on_host, when=on_host),
        TxStep("record", run=end),
    ),
    result=nothing,
    hosts=hosts,
    seal=seal,
)
