"""Hosts: machines that run VMs. ``state`` is what the operator wants, ``status`` what was observed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from msgspec import Meta

from mgmtnode.bus.message import ActionJob, Api, ApiJob, CreateJob, DeleteJob, Event, Nothing, UpdateJob
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.extension.point import extension_point
from mgmtnode.schema import UNSET, Data, Description, Inventory, Name, Ref, Resource, UnsetType, Uuid

if TYPE_CHECKING:
    from mgmtnode.db.session import Tx
    from mgmtnode.workflow.handle import JobHandle


class HostState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PRE_MAINTENANCE = "PreMaintenance"
    MAINTENANCE = "Maintenance"


class HostStatus(StrEnum):
    CONNECTING = "Connecting"
    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"


Address = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=r"^[0-9A-Za-z\[][0-9A-Za-z.:_\[\]-]*$(?!\n)",
        description="An IP address or a DNS name, with a port if the hypervisor needs another than its own",
    ),
]


class Host(Inventory):
    """``cpu`` counts physical threads, ``memory`` is bytes; both are 0 until the host was connected once."""

    cluster_uuid: Annotated[Uuid, Ref("cluster")]
    zone_uuid: Annotated[Uuid, Ref("zone")]
    management_ip: str
    hypervisor: str
    parameters: dict[str, Any]
    state: HostState
    status: HostStatus
    cpu: int
    memory: int
    version: str
    last_seen_at: datetime | None = None


HOST = Resource("host", "hosts", Host)


class AddHost(CreateJob[Host], frozen=True, kw_only=True):
    """Connects a host and takes it in. The hypervisor is the cluster's."""

    api: ClassVar[Api] = Api("host.create", "POST", "/hosts", "Add a host", admin=True)
    creates: ClassVar[str] = "host"

    name: Name
    description: Description = ""
    cluster_uuid: Annotated[Uuid, Ref("cluster")]
    management_ip: Address
    hypervisor: Name | None = None
    parameters: dict[str, Any] = {}


class UpdateHost(UpdateJob[Host], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "host.update", "PATCH", "/hosts/{uuid}", "Change name, description or address", admin=True
    )
    resource_type: ClassVar[str] = "host"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    management_ip: Address | UnsetType = UNSET


class DeleteHost(DeleteJob, frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "host.delete", "DELETE", "/hosts/{uuid}", "Remove a host; its VMs are stopped", admin=True
    )
    resource_type: ClassVar[str] = "host"


class EnableHost(ActionJob[Host], frozen=True, kw_only=True):
    """Allows placement; a host in maintenance is reconnected first."""

    api: ClassVar[Api] = Api(
        "host.enable", "POST", "/hosts/{uuid}/actions/enable", "Allow placement", admin=True
    )
    resource_type: ClassVar[str] = "host"


class DisableHost(ActionJob[Host], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "host.disable", "POST", "/hosts/{uuid}/actions/disable", "Refuse placement", admin=True
    )
    resource_type: ClassVar[str] = "host"


class MaintainHost(ActionJob[Host], frozen=True, kw_only=True):
    """Moves the VMs away, a few at a time, then leaves the host to its operator."""

    api: ClassVar[Api] = Api(
        "host.maintain", "POST", "/hosts/{uuid}/actions/maintain", "Enter maintenance mode", admin=True
    )
    resource_type: ClassVar[str] = "host"


class ReconnectHost(ActionJob[Host], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "host.reconnect", "POST", "/hosts/{uuid}/actions/reconnect", "Connect again", admin=True
    )
    resource_type: ClassVar[str] = "host"


class CleanupDebt(Data):
    """Something of a resource that may be left on a host: an undo failed there for good. What the resource held
    stays reserved until the host could be asked to remove it."""

    uuid: Uuid
    host_uuid: Uuid
    resource_uuid: Uuid
    job_uuid: Uuid
    reason: str
    created_at: datetime


CLEANUP_DEBT = Resource("cleanup_debt", "cleanup-debts", CleanupDebt, backed=False)


class SettleDebt(ApiJob[Nothing], frozen=True, kw_only=True):
    """Has the host remove what is left of ``resource_uuid``, in turn with the other jobs of that resource."""

    api: ClassVar[Api] = Api(
        "cleanup_debt.settle", "POST", "", "Remove what an undo left on a host", admin=True
    )
    target: ClassVar[str] = "resource_uuid"
    internal: ClassVar[bool] = True

    resource_uuid: Uuid
    host_uuid: Annotated[Uuid, Ref("host")]


class HostAdded(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "host.added"
    host: Host


class HostChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "host.changed"
    host: Host


class HostConnected(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "host.connected"


class HostDisconnected(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "host.disconnected"
    reason: str = ""


class HostDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "host.deleted"


class ReportedVm(Data):
    """A VM as its host reported it: ``power`` Running, Paused, Stopped, Crashed or Incoming."""

    uuid: Uuid
    power: str


@extension_point
class HostCapacityChanged(Protocol):
    """Somebody keeps account of hosts: what they have, and whether something can be placed there. Called in the
    transaction that changes a host's row (facts, state, status) or removes it."""

    def capacity_known(self, tx: Tx, host: Host) -> None: ...

    def capacity_gone(self, tx: Tx, host_uuid: str) -> None: ...


@extension_point
class HostEvacuation(Protocol):
    """Frees a host that enters maintenance. Raises when something could not be moved or stopped."""

    async def evacuate(self, job: JobHandle, host: Host) -> None: ...


AskAgain = Callable[[], Awaitable[list[ReportedVm]]]


@extension_point
class HostVmsReported(Protocol):
    """Hears what a host says it runs, after each ping and reconnect. What is recorded may be newer than that, and the
    clocks of the nodes that recorded it do not tell: who finds a difference asks ``again``, and gets an answer that is
    newer than what it has read."""

    async def vms_reported(self, host: Host, vms: list[ReportedVm], again: AskAgain) -> None:
        """Raises what ``again`` does when the host does not answer; then it is told anew with the next ping."""
        ...

    async def vms_unknown(self, host: Host) -> None:
        """The host has been out of reach for longer than the grace period."""
        ...


HOST_NOT_CONNECTED = ErrorCode("host.not-connected", Category.UNAVAILABLE, "the host is not connected")
HOST_BAD_STATE = ErrorCode("host.bad-state", Category.STATE, "the host's state does not allow this")
HOST_ADDRESS_TAKEN = ErrorCode(
    "host.address-taken", Category.EXISTS, "a host with this management address exists"
)
HOST_WRONG_HYPERVISOR = ErrorCode(
    "host.wrong-hypervisor", Category.INVALID, "the hypervisor is not the one of the cluster"
)
HOST_BAD_PARAMETERS = ErrorCode(
    "host.bad-parameters", Category.INVALID, "the parameters do not fit the hypervisor"
)
HOST_OWES = ErrorCode("host.owes", Category.STATE, "what failed undos left on the host is not cleaned up yet")
HOST_FOREIGN = ErrorCode("host.foreign", Category.STATE, "the host belongs to another installation")
