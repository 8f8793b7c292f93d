"""Paying a debt: a host removes what an undo could not, and what was kept back for it is free again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.hypervisor import PerformOnHost, SealOnHost, VmAction, VmCommand, VmSpec
from mgmtnode.db.session import Tx
from mgmtnode.errors import CONFLICT
from mgmtnode.workflow.flow import Flow, FlowContext, Step, TxStep
from mgmtnode.workflow.handle import JobHandle

if TYPE_CHECKING:
    from services.host.service import HostService

LEAST_MEMORY = 1 << 20


class SettleContext(FlowContext):
    """``owed``: nobody else has settled it meanwhile. ``lives_there``: the database says that the VM belongs
    on that host, so nothing there is too much."""

    resource_uuid: str
    host_uuid: str
    owed: bool = True
    lives_there: bool = False


def look(service: HostService, tx: Tx, context: SettleContext) -> None:
    if service.debts.lost(tx, context.resource_uuid):
        raise CONFLICT.error("nobody knows yet where the VM is", resource=context.resource_uuid)
    context.owed = service.debts.owed(tx, context.host_uuid, context.resource_uuid)
    context.lives_there = service.debts.lives_there(tx, context.host_uuid, context.resource_uuid)


async def clean(service: HostService, job: JobHandle, context: SettleContext) -> None:
    """Afterwards nothing that earlier owners have sent to the host will be done there any more."""
    host, uuid = context.host_uuid, context.resource_uuid
    if context.lives_there:
        await service.node.bus.call(SealOnHost(host_uuid=host, vm_uuid=uuid, fence=job.token.fence))
    else:
        await destroy(service, context)


async def destroy(service: HostService, context: SettleContext) -> None:
    vm = VmSpec(uuid=context.resource_uuid, name="", cpu=1, memory=LEAST_MEMORY)
    command = VmCommand(action=VmAction.DESTROY, vm=vm)
    await service.node.bus.call(PerformOnHost(host_uuid=context.host_uuid, command=command))


def settle(service: HostService, tx: Tx, context: SettleContext) -> None:
    service.debts.settle(tx, context.host_uuid, context.resource_uuid, keep=context.lives_there)


def result(service: HostService, tx: Tx, context: SettleContext) -> Nothing:
    return NOTHING


SETTLE_DEBT: Flow[HostService, SettleContext, Nothing] = Flow(
    "cleanup_debt.settle",
    (
        TxStep("look", run=look),
        Step("clean up", run=clean, when=lambda context: context.owed),
        TxStep("settle", run=settle),
    ),
    result=result,
)
