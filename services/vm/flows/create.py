"""Making a VM: quota, a host, addresses and the row in one transaction, then the host's part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.contracts.allocator import ReserveHost, ReturnHost
from mgmtnode.contracts.hypervisor import NicSpec, VmAction, VmSpec
from mgmtnode.contracts.nic import CreateNic, RemoveNic
from mgmtnode.contracts.quota import ReleaseQuota, ReserveQuota
from mgmtnode.contracts.vm import CreateVm, VmState
from mgmtnode.contracts.vm_events import VmCreated, VmExpunged
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.vm.flows.host_command import VmContext, command, hosts, on_host, placement, result, seal
from services.vm.size import Size
from services.vm.tags import STATIC_IP

if TYPE_CHECKING:
    from services.vm.service import VmService


class CreateContext(VmContext, kw_only=True):
    """``nic_uuids`` are drawn before the first transaction, one for each network."""

    msg: CreateVm
    nic_uuids: list[str]


def reserve(service: VmService, tx: Tx, context: CreateContext) -> None:
    msg, work = context.msg, tx.job
    size = service.size_of(tx, msg.instance_offering_uuid, msg.cpu, msg.memory)
    amounts = {"vm.num": 1, "vm.cpu": size.cpu, "vm.memory": size.memory}
    tx.call(ReserveQuota(account_uuid=work.account_uuid, resource_uuid=context.uuid, amounts=amounts))
    core = {"name": msg.name, "description": msg.description, "account": work.account_uuid}
    where = place(tx, context, size)
    context.before = VmState.STARTING if msg.start else VmState.CREATED
    context.host_uuid = where.get("host_uuid")
    values = {
        "state": context.before,
        "cpu": size.cpu,
        "memory": size.memory,
        "instance_offering_uuid": msg.instance_offering_uuid,
        **where,
    }
    service.vms.insert(tx, context.uuid, core, values)
    nics = add_nics(service, tx, context)
    context.spec = VmSpec(uuid=context.uuid, name=msg.name, cpu=size.cpu, memory=size.memory, nics=nics)
    tx.record(VmCreated(resource_uuid=context.uuid, vm_name=msg.name, cpu=size.cpu, memory=size.memory))


def place(tx: Tx, context: CreateContext, size: Size) -> dict[str, str | None]:
    """Reserves a host for a VM that is to be started; where another one belongs is only noted."""
    msg = context.msg
    if not msg.start:
        return {"zone_uuid": msg.zone_uuid, "cluster_uuid": msg.cluster_uuid, "hypervisor": ""}
    found = tx.call(
        ReserveHost(
            vm_uuid=context.uuid,
            cpu=size.cpu,
            memory=size.memory,
            zone_uuid=msg.zone_uuid,
            cluster_uuid=msg.cluster_uuid,
            host_uuid=msg.host_uuid,
            l3_network_uuids=msg.l3_network_uuids,
            strategy=size.allocator_strategy,
            system_tags=msg.system_tags,
        )
    )
    return {**placement(found)}


def add_nics(service: VmService, tx: Tx, context: CreateContext) -> list[NicSpec]:
    fixed = service.node.tags.ephemeral(STATIC_IP, context.msg.system_tags)
    static = {tokens["l3"]: tokens["ip"] for tokens in fixed}
    networks = zip(context.msg.l3_network_uuids, context.nic_uuids, strict=True)
    made = [
        tx.call(
            CreateNic(
                nic_uuid=nic,
                vm_uuid=context.uuid,
                account_uuid=tx.job.account_uuid,
                l3_network_uuid=network,
                device_index=index,
                ip=static.get(network),
            )
        )
        for index, (network, nic) in enumerate(networks)
    ]
    return [NicSpec(uuid=n.uuid, mac=n.mac, ip=n.ip, l3_network_uuid=n.l3_network_uuid) for n in made]


def forget(service: VmService, tx: Tx, context: VmContext) -> None:
    """Takes back all a VM holds, and the VM."""
    tx.call(ReturnHost(vm_uuid=context.uuid))
    tx.call(RemoveNic(vm_uuid=context.uuid))
    tx.call(ReleaseQuota(resource_uuid=context.uuid))
    tx.record(VmExpunged(resource_uuid=context.uuid))
    service.vms.delete(tx, context.uuid)


async def start(service: VmService, job: JobHandle, context: CreateContext) -> None:
    await command(service, context, VmAction.START)


async def destroy(service: VmService, job: JobHandle, context: CreateContext) -> None:
    await command(service, context, VmAction.DESTROY)


def record(service: VmService, tx: Tx, context: CreateContext) -> None:
    after = VmState.RUNNING if context.msg.start else VmState.STOPPED
    assert context.before is not None
    service.vms.move_from(tx, context.uuid, context.before, after)


CREATE_VM = Flow(
    "vm.create",
    (
        TxStep("reserve", run=reserve, undo=forget),
        Step("start on the host", run=start, undo=destroy, when=on_host),
        TxStep("record", run=record),
    ),
    result=result,
    hosts=hosts,
    seal=seal,
)
