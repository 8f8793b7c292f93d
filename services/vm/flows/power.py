"""Stopping, starting again, rebooting, pausing, resuming: a transitional state, one command, a steady state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgmtnode.contracts.allocator import ReserveHost, ReturnHost
from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.contracts.vm import Vm, VmState
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.jobs import ledger
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.vm.flows.host_command import (
    PLACE,
    VmContext,
    command,
    hosts,
    load,
    on_host,
    placement,
    result,
    seal,
)
from services.vm.state import check_allowed

if TYPE_CHECKING:
    from services.vm.service import VmService


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of power operation: ``via`` the transitional state ``to`` the steady one."""

    operation: str
    action: VmAction
    via: VmState
    to: VmState


def begin(change: Change) -> Callable[[VmService, Tx, VmContext], None]:
    def run(service: VmService, tx: Tx, context: VmContext) -> None:
        vm = load(service, tx, context)
        check_allowed(change.operation, vm.state, vm.uuid)
        if vm.state == change.to and change.operation != "reboot":
            context.done = True
            return
        service.vms.move_from(tx, vm.uuid, vm.state, change.via)

    return run


def restore(service: VmService, tx: Tx, context: VmContext) -> None:
    """Back to the state before; the host was asked to undo what it could."""
    row = service.vms.get(tx, context.uuid)
    if context.before and row.state != context.before:
        service.vms.move(tx, row, context.before)


def tell(change: Change) -> Callable[[VmService, JobHandle, VmContext], Any]:
    async def run(service: VmService, job: JobHandle, context: VmContext) -> None:
        await command(service, context, change.action)

    return run


def end(change: Change) -> Callable[[VmService, Tx, VmContext], None]:
    def run(service: VmService, tx: Tx, context: VmContext) -> None:
        if not context.done:
            service.vms.move_from(tx, context.uuid, change.via, change.to)

    return run


def power_flow(change: Change) -> Flow[VmService, VmContext, Vm]:
    return Flow(
        f"vm.{change.operation}",
        (
            TxStep("check", run=begin(change), undo=restore),
            Step(f"{change.operation} on the host", run=tell(change), when=on_host),
            TxStep("record", run=end(change)),
        ),
        result=result,
        hosts=hosts,
        seal=seal,
    )


REBOOT_VM = power_flow(Change("reboot", VmAction.REBOOT, VmState.REBOOTING, VmState.RUNNING))
PAUSE_VM = power_flow(Change("pause", VmAction.PAUSE, VmState.PAUSING, VmState.PAUSED))
RESUME_VM = power_flow(Change("resume", VmAction.RESUME, VmState.RESUMING, VmState.RUNNING))


class LeavingContext(VmContext):
    """``settle``: an operator says that the VM cannot run on its host any more, so that its silence is no obstacle.
    ``unheard``: what the host said, or why it did not."""

    settle: bool = False
    unheard: str = ""


async def take_off(service: VmService, context: LeavingContext, action: VmAction) -> None:
    """Has the VM's host stop or destroy it. With ``settle`` a host that cannot is left with a debt."""
    try:
        await command(service, context, action)
    except ApiError as error:
        if not context.settle:
            raise
        context.unheard = error.problem.message


def owe(tx: Tx, context: LeavingContext) -> None:
    """Should the host come back, what it still has of the VM is destroyed."""
    if context.unheard and context.host_uuid:
        job = tx.job.job_uuid
        ledger.owe(tx, context.host_uuid, context.uuid, job_uuid=job, reason=context.unheard)


class StopContext(LeavingContext):
    """``force``: pull the plug."""

    force: bool = False


STOPPING = Change("stop", VmAction.STOP, VmState.STOPPING, VmState.STOPPED)


async def stop_on_host(service: VmService, job: JobHandle, context: StopContext) -> None:
    await take_off(service, context, VmAction.DESTROY if context.force else VmAction.STOP)


def stopped(service: VmService, tx: Tx, context: StopContext) -> None:
    if context.done:
        return
    owe(tx, context)
    row = service.vms.get(tx, context.uuid)
    service.vms.move(tx, row, VmState.STOPPED, host_uuid=None, last_host_uuid=row.host_uuid)
    tx.call(ReturnHost(vm_uuid=context.uuid))


STOP_VM: Flow[VmService, StopContext, Vm] = Flow(
    "vm.stop",
    (
        TxStep("check", run=begin(STOPPING), undo=restore),
        Step("stop on the host", run=stop_on_host, when=on_host),
        TxStep("record", run=stopped),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)


class StartContext(VmContext):
    """``wanted_host_uuid``: where the caller wants it. ``was``: zone, cluster, host and hypervisor before."""

    wanted_host_uuid: str | None = None
    was: dict[str, Any] = {}


def place(service: VmService, tx: Tx, context: StartContext) -> None:
    vm = load(service, tx, context)
    check_allowed("start", vm.state, vm.uuid)
    if vm.state == VmState.RUNNING:
        context.done = True
        return
    found = tx.call(
        ReserveHost(
            vm_uuid=vm.uuid,
            cpu=vm.cpu,
            memory=vm.memory,
            hypervisor=vm.hypervisor or None,
            zone_uuid=vm.zone_uuid,
            host_uuid=context.wanted_host_uuid,
            l3_network_uuids=[nic.l3_network_uuid for nic in vm.nics],
            last_host_uuid=vm.last_host_uuid,
            strategy="" if context.wanted_host_uuid else "LastHostPreferred",
        )
    )
    context.host_uuid = found.host_uuid
    context.was = {name: getattr(vm, name) for name in PLACE}
    service.vms.move(tx, service.vms.get(tx, vm.uuid), VmState.STARTING, **placement(found))


def unplace(service: VmService, tx: Tx, context: StartContext) -> None:
    if context.done:
        return
    tx.call(ReturnHost(vm_uuid=context.uuid))
    service.vms.move(tx, service.vms.get(tx, context.uuid), VmState.STOPPED, **context.was)


async def start_on_host(service: VmService, job: JobHandle, context: StartContext) -> None:
    await command(service, context, VmAction.START)


async def destroy_on_host(service: VmService, job: JobHandle, context: StartContext) -> None:
    await command(service, context, VmAction.DESTROY)


STARTING = Change("start", VmAction.START, VmState.STARTING, VmState.RUNNING)

START_VM: Flow[VmService, StartContext, Vm] = Flow(
    "vm.start",
    (
        TxStep("reserve a host", run=place, undo=unplace),
        Step("start on the host", run=start_on_host, undo=destroy_on_host, when=on_host),
        TxStep("record", run=end(STARTING)),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)
