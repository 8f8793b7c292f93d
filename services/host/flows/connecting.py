"""What adding, reconnecting and leaving maintenance share: ask the host who it is, and keep the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.contracts.host import (
    HOST_ADDRESS_TAKEN,
    HOST_NOT_CONNECTED,
    Host,
    HostConnected,
    HostDisconnected,
    HostStatus,
)
from mgmtnode.contracts.hypervisor import HostFacts
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.workflow.flow import FlowContext
from mgmtnode.workflow.handle import JobHandle

if TYPE_CHECKING:
    from services.host.service import HostService


class ConnectContext(FlowContext):
    """``reason``: why it could not be connected."""

    uuid: str
    facts: HostFacts | None = None
    reason: str = ""


def begin(service: HostService, tx: Tx, context: ConnectContext) -> None:
    """A connected host stays so while it is connected again: its VMs are worked on meanwhile."""
    if service.hosts.get(tx, context.uuid).status is HostStatus.DISCONNECTED:
        service.hosts.change(tx, context.uuid, status=HostStatus.CONNECTING)
        service.forget(tx, context.uuid)


def give_up(service: HostService, tx: Tx, context: ConnectContext) -> None:
    host = service.hosts.change(tx, context.uuid, status=HostStatus.DISCONNECTED)
    tx.record(
        HostDisconnected(resource_uuid=host.uuid, reason=context.reason or "connecting it was given up")
    )
    service.forget(tx, host.uuid)


async def reconnect(service: HostService, job: JobHandle, context: ConnectContext) -> None:
    """Raises host.not-connected, its cause being what the driver said."""
    record = await service.known.read(context.uuid)
    try:
        context.facts = await service.drivers.connect(record)
    except ApiError as exc:
        context.reason = exc.problem.message
        host = record.host
        raise HOST_NOT_CONNECTED.error(
            f"host {host.name} ({host.management_ip}) could not be connected: {exc.problem.message}",
            resource=host.uuid,
            cause=exc,
        ) from exc


def keep_facts(service: HostService, tx: Tx, uuid: str, facts: HostFacts) -> Host:
    """Connected, with what the host said of itself. Raises host.address-taken when the same agent answers at
    another host's address, too."""
    other = service.hosts.with_identity(tx, facts.identity, but=uuid) if facts.identity else None
    if other:
        raise HOST_ADDRESS_TAKEN.error(
            f"the machine that answers there is host {other} already", resource=other
        )
    host = service.hosts.change(
        tx,
        uuid,
        status=HostStatus.CONNECTED,
        cpu=facts.cpu,
        memory=facts.memory,
        version=facts.version,
        identity=facts.identity,
        last_seen_at=tx.now,
    )
    tx.record(HostConnected(resource_uuid=uuid))
    service.forget(tx, uuid)
    return host
