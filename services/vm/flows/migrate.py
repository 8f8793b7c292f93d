"""Moving a VM: room on the destination first, then the move, then the books. It never holds less than it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.allocator import ReserveHost, ReturnHost
from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.contracts.vm import Vm, VmState
from mgmtnode.contracts.vm_events import VM_SAME_HOST, VM_WHEREABOUTS_UNKNOWN, VmMigrated
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.vm.flows.host_command import VmContext, command, hosts, load, on_host, result, seal
from services.vm.state import check_allowed

if TYPE_CHECKING:
    from services.vm.service import VmService


class MigrateContext(VmContext):
    """From ``host_uuid`` to ``peer_uuid``. ``only_from``: a VM that is not there (any more) is left alone.
    ``uncertain``: the way back has failed so far, so the VM may be on either host."""

    wanted_host_uuid: str | None = None
    only_from: str | None = None
    zone_uuid: str | None = None
    cluster_uuid: str | None = None


def choose(service: VmService, tx: Tx, context: MigrateContext) -> None:
    vm = load(service, tx, context)
    if context.only_from and vm.host_uuid != context.only_from:
        context.done = True
        return
    check_allowed("migrate", vm.state, vm.uuid)
    if context.wanted_host_uuid == vm.host_uuid:
        raise VM_SAME_HOST.error(f"the VM is on host {vm.host_uuid} already", resource=vm.uuid)
    found = tx.call(request(vm, context.wanted_host_uuid))
    context.peer_uuid, context.cluster_uuid = found.host_uuid, found.cluster_uuid
    service.vms.move(tx, service.vms.get(tx, vm.uuid), VmState.MIGRATING)


def request(vm: Vm, wanted_host_uuid: str | None = None) -> ReserveHost:
    """What the VM needs of another host: of its own cluster, unless one is asked for."""
    return ReserveHost(
        vm_uuid=vm.uuid,
        cpu=vm.cpu,
        memory=vm.memory,
        hypervisor=vm.hypervisor or None,
        zone_uuid=vm.zone_uuid,
        cluster_uuid=None if wanted_host_uuid else vm.cluster_uuid,
        host_uuid=wanted_host_uuid,
        l3_network_uuids=[nic.l3_network_uuid for nic in vm.nics],
        avoid=[vm.host_uuid] if vm.host_uuid else [],
    )


def stay(service: VmService, tx: Tx, context: MigrateContext) -> None:
    """Where it was; nobody knows where, if the move may have happened: then it holds its place on both hosts, and their
    next reports tell."""
    assert context.before is not None
    if not context.uncertain:
        tx.call(ReturnHost(vm_uuid=context.uuid, host_uuid=context.peer_uuid))
    after = VmState.UNKNOWN if context.uncertain else context.before
    service.vms.move(tx, service.vms.get(tx, context.uuid), after)


async def prepare(service: VmService, job: JobHandle, context: MigrateContext) -> None:
    await command(service, context, VmAction.PREPARE_MIGRATION, host=context.peer_uuid)


async def give_up(service: VmService, job: JobHandle, context: MigrateContext) -> None:
    if context.uncertain:  # what is there may be the VM itself
        raise VM_WHEREABOUTS_UNKNOWN.error(
            "nobody knows on which of the two hosts the VM is", resource=context.uuid
        )
    await command(service, context, VmAction.DESTROY, host=context.peer_uuid)


async def move(service: VmService, job: JobHandle, context: MigrateContext) -> None:
    await command(service, context, VmAction.MIGRATE, peer=context.peer_uuid)


async def move_back(service: VmService, job: JobHandle, context: MigrateContext) -> None:
    context.uncertain = True
    await command(service, context, VmAction.MIGRATE_BACK, peer=context.peer_uuid)
    context.uncertain = False


def settle(service: VmService, tx: Tx, context: MigrateContext) -> None:
    if context.done:
        return
    assert context.before and context.host_uuid and context.peer_uuid
    row = service.vms.get(tx, context.uuid)
    tx.call(ReturnHost(vm_uuid=context.uuid, host_uuid=context.host_uuid))
    service.vms.move(
        tx,
        row,
        context.before,
        host_uuid=context.peer_uuid,
        last_host_uuid=context.host_uuid,
        cluster_uuid=context.cluster_uuid,
    )
    tx.record(
        VmMigrated(
            resource_uuid=context.uuid, from_host_uuid=context.host_uuid, to_host_uuid=context.peer_uuid
        )
    )


MIGRATE_VM: Flow[VmService, MigrateContext, Vm] = Flow(
    "vm.migrate",
    (
        TxStep("choose a host", run=choose, undo=stay),
        Step("prepare the destination", run=prepare, undo=give_up, when=on_host),
        Step("move", run=move, undo=move_back, when=on_host),
        TxStep("settle", run=settle),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)

MOVE_OFF: Flow[VmService, MigrateContext, Nothing] = Flow(
    "vm.move-off",
    MIGRATE_VM.steps,
    result=lambda service, tx, context: NOTHING,
    hosts=hosts,
    seal=seal,
)
