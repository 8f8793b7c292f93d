"""Adding a host: a row, a connection, then what the host says of itself. A failure leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mgmtnode.contracts.cluster import CLUSTER, Cluster
from mgmtnode.contracts.host import AddHost, Host, HostAdded, HostState, HostStatus
from mgmtnode.db.session import Tx
from mgmtnode.workflow.flow import Flow, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from services.host import validate
from services.host.flows.connecting import ConnectContext, keep_facts

if TYPE_CHECKING:
    from services.host.service import HostService


class AddContext(ConnectContext, kw_only=True):
    name: str
    description: str
    account_uuid: str
    cluster_uuid: str
    management_ip: str
    hypervisor: str | None
    parameters: dict[str, Any]


def context_for(msg: AddHost, uuid: str, account_uuid: str) -> AddContext:
    return AddContext(
        uuid=uuid,
        name=msg.name,
        description=msg.description,
        account_uuid=account_uuid,
        cluster_uuid=msg.cluster_uuid,
        management_ip=msg.management_ip,
        hypervisor=msg.hypervisor,
        parameters=msg.parameters,
    )


def save(service: HostService, tx: Tx, context: AddContext) -> None:
    cluster: Cluster = service.node.query.get(tx, CLUSTER, context.cluster_uuid)
    validate.hypervisor(cluster, context.hypervisor)
    service.hosts.check_address(tx, context.management_ip)
    context.hypervisor = cluster.hypervisor
    new = Host(
        uuid=context.uuid,
        name=context.name,
        description=context.description,
        created_at=tx.now,
        updated_at=tx.now,
        cluster_uuid=cluster.uuid,
        zone_uuid=cluster.zone_uuid,
        management_ip=context.management_ip,
        hypervisor=cluster.hypervisor,
        parameters=context.parameters,
        state=HostState.ENABLED,
        status=HostStatus.CONNECTING,
        cpu=0,
        memory=0,
        version="",
    )
    service.hosts.insert(tx, context.account_uuid, new)


def discard(service: HostService, tx: Tx, context: AddContext) -> None:
    service.hosts.delete(tx, context.uuid)
    service.forget(tx, context.uuid)


async def connect(service: HostService, job: JobHandle, context: AddContext) -> None:
    context.facts = await service.drivers.connect(await service.known.read(context.uuid))


async def disconnect(service: HostService, job: JobHandle, context: AddContext) -> None:
    await service.let_go(await service.known.read(context.uuid))


def record_facts(service: HostService, tx: Tx, context: AddContext) -> None:
    assert context.facts is not None
    host = keep_facts(service, tx, context.uuid, context.facts)
    tx.record(HostAdded(resource_uuid=host.uuid, host=host))


ADD_HOST: Flow[HostService, AddContext, Host] = Flow(
    "host.add",
    (
        TxStep("save", run=save, undo=discard),
        Step("connect", run=connect, undo=disconnect, record=True),
        TxStep("record facts", run=record_facts),
    ),
    result=lambda service, tx, context: service.hosts.get(tx, context.uuid),
)
