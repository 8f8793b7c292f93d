"""L3 networks: addresses for VMs. Ranges of addresses are in ``ip_range``, wires in ``l2_network``, NICs in ``nic``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import ActionJob, Api, ApiCall, CreateJob, DeleteJob, Event, UpdateJob
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import (
    UNSET,
    Data,
    Description,
    Embed,
    Inventory,
    IpAddress,
    Name,
    Ref,
    Resource,
    UnsetType,
    Uuid,
)


class NetworkState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class IpStrategy(StrEnum):
    """Which free address a NIC gets: any; the lowest; or the next one up from the last that was handed out, so that
    a freed address rests as long as possible (allocations on such a network wait for each other's commit)."""

    RANDOM = "RandomIp"
    FIRST = "FirstAvailable"
    ASCENDING = "AscDelayRecycle"


class RangeBrief(Data):
    """A range of addresses as its network shows it."""

    uuid: Uuid
    start_ip: str
    end_ip: str
    gateway: str | None
    netmask: str
    cidr: str


class L3Network(Inventory):
    """``l2_network_uuid`` None: it is on no wire in particular, and every cluster of its zone has it; its addresses
    are its own and may be those of another such network."""

    zone_uuid: Annotated[Uuid, Ref("zone")]
    l2_network_uuid: Annotated[Uuid, Ref("l2_network")] | None
    state: NetworkState
    allocator_strategy: IpStrategy
    dns: list[str]
    domain: str
    ip_ranges: Annotated[list[RangeBrief], Embed("ip_ranges")] = []


L3_NETWORK = Resource("l3_network", "l3-networks", L3Network, owned=True)

Dns = Annotated[list[IpAddress], Meta(max_length=8, description="Name servers, told to the VMs")]
Domain = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*)?$(?!\n)",
        description="A DNS domain, or empty",
    ),
]


class CreateL3Network(CreateJob[L3Network], frozen=True, kw_only=True):
    """Makes a network, enabled and without addresses. ``allocator_strategy``: the config
    network.allocator_strategy unless given. Raises network.zone-mismatch and quota.exceeded."""

    api: ClassVar[Api] = Api("l3_network.create", "POST", "/l3-networks", "Create an L3 network")
    creates: ClassVar[str] = "l3_network"

    name: Name
    description: Description = ""
    zone_uuid: Annotated[Uuid, Ref("zone")]
    l2_network_uuid: Annotated[Uuid, Ref("l2_network")] | None = None
    allocator_strategy: IpStrategy | None = None
    dns: Dns = []
    domain: Domain = ""


class UpdateL3Network(UpdateJob[L3Network], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("l3_network.update", "PATCH", "/l3-networks/{uuid}", "Change an L3 network")
    resource_type: ClassVar[str] = "l3_network"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    allocator_strategy: IpStrategy | UnsetType = UNSET
    dns: Dns | UnsetType = UNSET
    domain: Domain | UnsetType = UNSET


class DeleteL3Network(DeleteJob, frozen=True, kw_only=True):
    """Deletes it and its ranges. Raises network.in-use while NICs use it; ``force`` detaches them from their VMs."""

    api: ClassVar[Api] = Api("l3_network.delete", "DELETE", "/l3-networks/{uuid}", "Delete an L3 network")
    resource_type: ClassVar[str] = "l3_network"


class EnableL3Network(ActionJob[L3Network], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "l3_network.enable", "POST", "/l3-networks/{uuid}/actions/enable", "Allow new NICs on the network"
    )
    resource_type: ClassVar[str] = "l3_network"


class DisableL3Network(ActionJob[L3Network], frozen=True, kw_only=True):
    """A disabled network gets no new NICs; those it has go on."""

    api: ClassVar[Api] = Api(
        "l3_network.disable", "POST", "/l3-networks/{uuid}/actions/disable", "Refuse new NICs on the network"
    )
    resource_type: ClassVar[str] = "l3_network"


class IpUsage(Data):
    """Addresses of a network's ranges. ``quarantined`` ones were given to a VM that nobody could make sure is gone."""

    total: int
    used: int
    quarantined: int
    free: int


class GetIpUsage(ApiCall[IpUsage], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "l3_network.ip-usage", "GET", "/l3-networks/{uuid}/ip-usage", "Addresses used and free"
    )

    uuid: Annotated[Uuid, Ref("l3_network")]


class IpStatus(StrEnum):
    FREE = "Free"
    USED = "Used"
    QUARANTINED = "Quarantined"
    FOREIGN = "Foreign"


class IpAvailability(Data):
    """``status`` Foreign: in no range of the network."""

    ip: str
    available: bool
    status: IpStatus


class CheckIp(ApiCall[IpAvailability], frozen=True, kw_only=True):
    """Whether an address could be given to a NIC now."""

    api: ClassVar[Api] = Api(
        "l3_network.check-ip", "GET", "/l3-networks/{uuid}/ip-availability", "Whether an address is free"
    )

    uuid: Annotated[Uuid, Ref("l3_network")]
    ip: IpAddress


class L3NetworkCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "l3_network.created"
    l3_network: L3Network


class L3NetworkChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "l3_network.changed"
    l3_network: L3Network


class L3NetworkDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "l3_network.deleted"


NETWORK_IN_USE = ErrorCode("network.in-use", Category.STATE, "NICs of VMs still use it")
