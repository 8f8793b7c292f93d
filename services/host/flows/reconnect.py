"""Connecting a host again, and enabling one that leaves maintenance, which begins the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.contracts.host import Host, HostChanged, HostState
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.host.flows.connecting import ConnectContext, begin, give_up, keep_facts, reconnect
from services.host.state import Wish, after

if TYPE_CHECKING:
    from services.host.service import HostService


class EnableContext(ConnectContext):
    """``connect``: it comes out of maintenance and has to be connected first."""

    connect: bool = False


def record_facts(service: HostService, tx: Tx, context: ConnectContext) -> None:
    assert context.facts is not None
    keep_facts(service, tx, context.uuid, context.facts)


async def report(service: HostService, job: JobHandle, context: ConnectContext) -> None:
    """Tells who keeps account of VMs what runs there; a host in maintenance runs nothing of ours."""
    await service.reports.ask(await service.known.read(context.uuid))


RECONNECT_HOST: Flow[HostService, ConnectContext, Host] = Flow(
    "host.reconnect",
    (
        TxStep("begin", run=begin, undo=give_up),
        Step("connect", run=reconnect, record=True),
        TxStep("record facts", run=record_facts),
        Step("report VMs", run=report),
    ),
    result=lambda service, tx, context: service.hosts.get(tx, context.uuid),
)


def begin_enable(service: HostService, tx: Tx, context: EnableContext) -> None:
    state = service.hosts.get(tx, context.uuid).state
    after(context.uuid, state, Wish.ENABLE)
    context.connect = state is HostState.MAINTENANCE
    if context.connect:
        begin(service, tx, context)


def stay(service: HostService, tx: Tx, context: EnableContext) -> None:
    if context.connect:
        give_up(service, tx, context)


def enable(service: HostService, tx: Tx, context: EnableContext) -> None:
    if context.connect:
        record_facts(service, tx, context)
    host = service.hosts.change(tx, context.uuid, state=HostState.ENABLED)
    tx.record(HostChanged(resource_uuid=host.uuid, host=host))
    service.forget(tx, host.uuid)


ENABLE_HOST: Flow[HostService, EnableContext, Host] = Flow(
    "host.enable",
    (
        TxStep("begin", run=begin_enable, undo=stay),
        Step("connect", run=reconnect, record=True, when=lambda context: context.connect),
        TxStep("enable", run=enable),
    ),
    result=lambda service, tx, context: service.hosts.get(tx, context.uuid),
)
