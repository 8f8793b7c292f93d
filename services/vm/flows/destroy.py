"""Destroying a VM: off its host, then kept for recovery or deleted for good, as the policy says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.allocator import ReturnHost
from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.contracts.vm import VmState
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.vm.config import DELETION_POLICY
from services.vm.flows.create import forget
from services.vm.flows.host_command import VmContext, command, hosts, load, on_host, seal
from services.vm.flows.power import OUT_OF_REACH, restore
from services.vm.state import check_allowed

if TYPE_CHECKING:
    from services.vm.service import VmService


class DestroyContext(VmContext):
    """``for_good``: not kept for recovery. ``settle``: its host is leaving, so silence of it is no obstacle."""

    for_good: bool = False
    settle: bool = False


def begin(service: VmService, tx: Tx, context: DestroyContext) -> None:
    vm = load(service, tx, context)
    check_allowed("destroy", vm.state, vm.uuid)
    context.for_good = (
        context.for_good or service.node.config.get(DELETION_POLICY) == "Direct" or bool(tx.origin)
    )
    context.settle = context.settle or bool(tx.origin)
    if vm.state == VmState.DESTROYED:
        return
    service.vms.move(tx, service.vms.get(tx, vm.uuid), VmState.DESTROYING)


async def destroy_on_host(service: VmService, job: JobHandle, context: DestroyContext) -> None:
    try:
        await command(service, context, VmAction.DESTROY)
    except ApiError as error:
        if not context.settle or error.code not in OUT_OF_REACH:
            raise


def end(service: VmService, tx: Tx, context: DestroyContext) -> None:
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
