"""Destroying what runs on a host and should not be: in turn with whatever is done under the same uuid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.hypervisor import VmAction, VmSpec
from mgmtnode.contracts.vm import VmState
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.vm.flows.host_command import VmContext, command, hosts, on_host, seal

if TYPE_CHECKING:
    from services.vm.service import VmService

LEAST_MEMORY = 1 << 20


def look(service: VmService, tx: Tx, context: VmContext) -> None:
    """Leaves alone what has become a VM of ours meanwhile."""
    where = service.vms.placed(tx, [context.uuid]).get(context.uuid)
    context.done = where is not None and where.state != VmState.DESTROYED
    context.spec = VmSpec(uuid=context.uuid, name="", cpu=1, memory=LEAST_MEMORY)


async def destroy(service: VmService, job: JobHandle, context: VmContext) -> None:
    await command(service, context, VmAction.DESTROY)


DESTROY_STRANGER: Flow[VmService, VmContext, Nothing] = Flow(
    "vm.destroy-stranger",
    (TxStep("look", run=look), Step("destroy on the host", run=destroy, when=on_host)),
    result=lambda service, tx, context: NOTHING,
    hosts=hosts,
    seal=seal,
)
