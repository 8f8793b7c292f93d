"""Maintenance: nothing new comes, all that runs there leaves, then the host is its operator's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.contracts.host import Host, HostChanged, HostEvacuation, HostState
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, FlowContext, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.host.state import Wish, after

if TYPE_CHECKING:
    from services.host.service import HostService


class MaintainContext(FlowContext):
    """``before``: the state to go back to if somebody cannot leave."""

    uuid: str
    before: HostState = HostState.ENABLED

    @property
    def needed(self) -> bool:
        return self.before is not HostState.MAINTENANCE


def announce(service: HostService, tx: Tx, context: MaintainContext) -> None:
    context.before = service.hosts.get(tx, context.uuid).state
    change(service, tx, context, after(context.uuid, context.before, Wish.MAINTAIN))


def restore(service: HostService, tx: Tx, context: MaintainContext) -> None:
    change(service, tx, context, context.before)


async def evacuate(service: HostService, job: JobHandle, context: MaintainContext) -> None:
    host = (await service.known.read(context.uuid)).host
    for who in service.node.extensions.all(HostEvacuation):
        await who.evacuate(job, host)


def enter(service: HostService, tx: Tx, context: MaintainContext) -> None:
    if context.needed:
        change(service, tx, context, after(context.uuid, HostState.PRE_MAINTENANCE, Wish.MAINTAINED))


def change(service: HostService, tx: Tx, context: MaintainContext, state: HostState) -> None:
    host = service.hosts.change(tx, context.uuid, state=state)
    tx.record(HostChanged(resource_uuid=host.uuid, host=host))
    service.forget(tx, host.uuid)


MAINTAIN_HOST: Flow[HostService, MaintainContext, Host] = Flow(
    "host.maintain",
    (
        TxStep("announce", run=announce, undo=restore),
        Step("evacuate", run=evacuate, when=lambda context: context.needed),
        TxStep("enter", run=enter),
    ),
    result=lambda service, tx, context: service.hosts.get(tx, context.uuid),
)
