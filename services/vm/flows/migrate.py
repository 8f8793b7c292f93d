"""Moving a VM: room on the destination first, then the move, then the books. It never holds less than it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.contracts.allocator import ReserveHost, ReturnHost
from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.contracts.vm import VmState
from mgmtnode.contracts.vm_events import VM_SAME_HOST, VmMigrated
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.vm.flows.host_command import VmContext, command, hosts, load, result, seal
from services.vm.state import check_allowed

if TYPE_CHECKING:
    from services.vm.service import VmService


class MigrateContext(VmContext):
    """From ``host_uuid`` to ``peer_uuid``."""

    wanted_host_uuid: str | None = None
    zone_uuid: str | None = None
    cluster_uuid: str | None = None


def choose(service: VmService, tx: Tx, context: MigrateContext) -> None:
    vm = load(service, tx, context)
    check_allowed("migrate", vm.state, vm.uuid)
    if context.wanted_host_uuid == vm.host_uuid:
        raise VM_SAME_HOST.error(f"the VM is on host {vm.host_uuid} already", resource=vm.uuid)
    found = tx.call(
        ReserveHost(
            vm_uuid=vm.uuid,
            cpu=vm.cpu,
            memory=vm.memory,
            hypervisor=vm.hypervisor or None,
            zone_uuid=vm.zone_uuid,
            cluster_uuid=None if context.wanted_host_uuid else vm.cluster_uuid,
            host_uuid=context.wanted_host_uuid,
            l3_network_uuids=[nic.l3_network_uuid for nic in vm.nics],
            avoid=[vm.host_uuid] if vm.host_uuid else [],
        )
    )
    context.peer_uuid, context.cluster_uuid = found.host_uuid, found.cluster_uuid
    service.vms.move(tx, service.vms.get(tx, vm.uuid), VmState.MIGRATING)


def stay(service: VmService, tx: Tx, context: MigrateContext) -> None:
    assert context.before is not None
    tx.call(ReturnHost(vm_uuid=context.uuid, host_uuid=context.peer_uuid))
    service.vms.move(tx, service.vms.get(tx, context.uuid), context.before)


async def prepare(service: VmService, job: JobHandle, context: MigrateContext) -> None:
    await command(service, context, VmAction.PREPARE_MIGRATION, host=context.peer_uuid)


async def give_up(service: VmService, job: JobHandle, context: MigrateContext) -> None:
    await command(service, context, VmAction.DESTROY, host=context.peer_uuid)


async def move(service: VmService, job: JobHandle, context: MigrateContext) -> None:
    await command(service, context, VmAction.MIGRATE, peer=context.peer_uuid)


async def move_back(service: VmService, job: JobHandle, context: MigrateContext) -> None:
    await command(service, context, VmAction.MIGRATE_BACK, peer=context.peer_uuid)


def settle(service: VmService, tx: Tx, context: MigrateContext) -> None:
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


MIGRATE_VM = Flow(
    "vm.migrate",
    (
        TxStep("choose a host", run=choose, undo=stay),
        Step("prepare the destination", run=prepare, undo=give_up),
        Step("move", run=move, undo=move_back),
        TxStep("settle", run=settle),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)
