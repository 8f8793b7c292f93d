"""Clusters: hosts of one hypervisor that share networks, inside a zone."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from mgmtnode.bus.message import ActionJob, Api, CreateJob, DeleteJob, Event, UpdateJob
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import UNSET, Description, Inventory, Name, Ref, Resource, UnsetType, Uuid


class ClusterState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Cluster(Inventory):
    zone_uuid: Annotated[Uuid, Ref("zone")]
    hypervisor: str
    state: ClusterState


CLUSTER = Resource("cluster", "clusters", Cluster)


class CreateCluster(CreateJob[Cluster], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("cluster.create", "POST", "/clusters", "Create a cluster", admin=True)
    creates: ClassVar[str] = "cluster"

    name: Name
    description: Description = ""
    zone_uuid: Annotated[Uuid, Ref("zone")]
    hypervisor: Name


class UpdateCluster(UpdateJob[Cluster], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "cluster.update", "PATCH", "/clusters/{uuid}", "Change name or description", admin=True
    )
    resource_type: ClassVar[str] = "cluster"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class DeleteCluster(DeleteJob, frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "cluster.delete", "DELETE", "/clusters/{uuid}", "Delete a cluster and all in it", admin=True
    )
    resource_type: ClassVar[str] = "cluster"


class EnableCluster(ActionJob[Cluster], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "cluster.enable", "POST", "/clusters/{uuid}/actions/enable", "Allow placement", admin=True
    )
    resource_type: ClassVar[str] = "cluster"


class DisableCluster(ActionJob[Cluster], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "cluster.disable", "POST", "/clusters/{uuid}/actions/disable", "Refuse placement", admin=True
    )
    resource_type: ClassVar[str] = "cluster"


class ClusterCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "cluster.created"
    cluster: Cluster


class ClusterChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "cluster.changed"
    cluster: Cluster


class ClusterDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "cluster.deleted"


CLUSTER_HYPERVISOR_UNKNOWN = ErrorCode(
    "cluster.hypervisor-unknown", Category.INVALID, "no service on this node drives this hypervisor"
)
