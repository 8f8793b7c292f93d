"""Ranges of IPv4 addresses that an L3 network hands out."""

from __future__ import annotations

from typing import Annotated, ClassVar

from mgmtnode.bus.message import Api, CreateJob, DeleteJob, Event, UpdateJob
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import (
    UNSET,
    Cidr,
    Description,
    Inventory,
    IpAddress,
    Name,
    Ref,
    Resource,
    UnsetType,
    Uuid,
)


class IpRange(Inventory):
    """``start_ip`` to ``end_ip`` are handed out, both included; ``cidr`` is the subnet they are in."""

    l3_network_uuid: Annotated[Uuid, Ref("l3_network")]
    start_ip: str
    end_ip: str
    gateway: str | None
    netmask: str
    cidr: str
    size: int


IP_RANGE = Resource("ip_range", "ip-ranges", IpRange, owned=True)


class CreateIpRange(CreateJob[IpRange], frozen=True, kw_only=True):
    """Adds addresses to a network: either ``cidr``, or ``start_ip``, ``end_ip`` and ``netmask``.

    Network and broadcast address of the subnet are left out. With ``cidr`` the gateway is the first usable address
    unless given (the first or the last one), and not handed out; a /32 has none. Ranges of one subnet agree on its
    size and gateway. Raises network.bad-range, network.bad-gateway, network.range-too-large, network.range-reserved,
    network.range-overlap, network.subnet-mismatch.
    """

    api: ClassVar[Api] = Api("ip_range.create", "POST", "/ip-ranges", "Add addresses to an L3 network")
    creates: ClassVar[str] = "ip_range"

    name: Name | None = None
    description: Description = ""
    l3_network_uuid: Annotated[Uuid, Ref("l3_network")]
    cidr: Cidr | None = None
    start_ip: IpAddress | None = None
    end_ip: IpAddress | None = None
    gateway: IpAddress | None = None
    netmask: IpAddress | None = None


class UpdateIpRange(UpdateJob[IpRange], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("ip_range.update", "PATCH", "/ip-ranges/{uuid}", "Change name or description")
    resource_type: ClassVar[str] = "ip_range"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class DeleteIpRange(DeleteJob, frozen=True, kw_only=True):
    """Raises network.in-use while NICs have addresses of it; ``force`` detaches them from their VMs."""

    api: ClassVar[Api] = Api(
        "ip_range.delete", "DELETE", "/ip-ranges/{uuid}", "Take addresses from an L3 network"
    )
    resource_type: ClassVar[str] = "ip_range"


class IpRangeCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "ip_range.created"
    ip_range: IpRange


class IpRangeChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "ip_range.changed"
    ip_range: IpRange


class IpRangeDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "ip_range.deleted"


BAD_RANGE = ErrorCode("network.bad-range", Category.INVALID, "the range is not well-formed")
BAD_GATEWAY = ErrorCode("network.bad-gateway", Category.INVALID, "the gateway does not fit the range")
RANGE_TOO_LARGE = ErrorCode(
    "network.range-too-large", Category.INVALID, "a range has at most 1048576 addresses"
)
RANGE_RESERVED = ErrorCode(
    "network.range-reserved", Category.INVALID, "such addresses cannot be given to VMs"
)
RANGE_OVERLAP = ErrorCode(
    "network.range-overlap", Category.EXISTS, "the addresses are in another range already"
)
SUBNET_MISMATCH = ErrorCode(
    "network.subnet-mismatch", Category.INVALID, "ranges of one subnet must agree on its size and gateway"
)
