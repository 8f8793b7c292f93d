"""L2 networks: wires that the hosts of a zone's clusters are plugged into."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import ActionJob, Api, CreateJob, DeleteJob, Event, UpdateJob
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import UNSET, Description, Embed, Inventory, Name, Ref, Resource, UnsetType, Uuid


class L2Type(StrEnum):
    NO_VLAN = "NoVlan"
    VLAN = "Vlan"


class L2Network(Inventory):
    """``all_clusters``: every cluster of the zone has it, also ones to come; otherwise those in ``cluster_uuids``."""

    zone_uuid: Annotated[Uuid, Ref("zone")]
    type: L2Type
    vlan: int | None
    physical_interface: str
    all_clusters: bool
    cluster_uuids: Annotated[list[Annotated[Uuid, Ref("cluster")]], Embed("clusters")] = []


L2_NETWORK = Resource("l2_network", "l2-networks", L2Network)

Vlan = Annotated[int, Meta(ge=1, le=4094, description="A VLAN id")]
Interface = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,14}$(?!\n)", description="A network interface of the hosts"),
]


class CreateL2Network(CreateJob[L2Network], frozen=True, kw_only=True):
    """Makes an L2 network that all clusters of the zone have, until it is attached to some of them.

    ``vlan`` goes with type Vlan and only with it. Raises network.bad-vlan.
    """

    api: ClassVar[Api] = Api("l2_network.create", "POST", "/l2-networks", "Create an L2 network", admin=True)
    creates: ClassVar[str] = "l2_network"

    name: Name
    description: Description = ""
    zone_uuid: Annotated[Uuid, Ref("zone")]
    type: L2Type = L2Type.NO_VLAN
    vlan: Vlan | None = None
    physical_interface: Interface


class UpdateL2Network(UpdateJob[L2Network], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "l2_network.update", "PATCH", "/l2-networks/{uuid}", "Change name, description or reach", admin=True
    )
    resource_type: ClassVar[str] = "l2_network"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    all_clusters: bool | UnsetType = UNSET


class DeleteL2Network(DeleteJob, frozen=True, kw_only=True):
    """Deletes it and its L3 networks. Raises network.in-use while NICs use them; ``force`` detaches those."""

    api: ClassVar[Api] = Api(
        "l2_network.delete", "DELETE", "/l2-networks/{uuid}", "Delete an L2 network and all on it", admin=True
    )
    resource_type: ClassVar[str] = "l2_network"


class AttachL2ToCluster(ActionJob[L2Network], frozen=True, kw_only=True):
    """Says that a cluster has this network. From the first attachment on, only attached clusters have it.

    Attached already is success. Raises network.zone-mismatch.
    """

    api: ClassVar[Api] = Api(
        "l2_network.attach-cluster",
        "POST",
        "/l2-networks/{uuid}/actions/attach-cluster",
        "Attach an L2 network to a cluster",
        admin=True,
    )
    resource_type: ClassVar[str] = "l2_network"

    cluster_uuid: Annotated[Uuid, Ref("cluster")]


class DetachL2FromCluster(ActionJob[L2Network], frozen=True, kw_only=True):
    """Not attached is success. Raises network.in-use while VMs of the cluster have NICs on it."""

    api: ClassVar[Api] = Api(
        "l2_network.detach-cluster",
        "POST",
        "/l2-networks/{uuid}/actions/detach-cluster",
        "Detach an L2 network from a cluster",
        admin=True,
    )
    resource_type: ClassVar[str] = "l2_network"

    cluster_uuid: Annotated[Uuid, Ref("cluster")]


class L2NetworkCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "l2_network.created"
    l2_network: L2Network


class L2NetworkChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "l2_network.changed"
    l2_network: L2Network


class L2NetworkDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "l2_network.deleted"


BAD_VLAN = ErrorCode(
    "network.bad-vlan", Category.INVALID, "a Vlan network has a VLAN id, another one has none"
)
ZONE_MISMATCH = ErrorCode("network.zone-mismatch", Category.INVALID, "the two are in different zones")
