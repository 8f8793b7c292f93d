"""Instance offerings: sizes that VMs are made in."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import ActionJob, Api, CreateJob, DeleteJob, Event, UpdateJob
from mgmtnode.schema import UNSET, CpuCount, Description, Inventory, Memory, Name, Resource, UnsetType


class OfferingState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class InstanceOffering(Inventory):
    """``allocator_strategy`` places the VMs made in this size; empty: the cloud's default strategy."""

    cpu: int
    memory: int
    state: OfferingState
    allocator_strategy: str


INSTANCE_OFFERING = Resource("instance_offering", "instance-offerings", InstanceOffering)

StrategyName = Annotated[
    str, Meta(max_length=64, description="An allocator strategy, or empty for the default")
]


class CreateInstanceOffering(CreateJob[InstanceOffering], frozen=True, kw_only=True):
    """Makes a size, enabled, that all accounts see. Its cpu and memory never change: VMs were made in it."""

    api: ClassVar[Api] = Api(
        "instance_offering.create", "POST", "/instance-offerings", "Create an instance offering", admin=True
    )
    creates: ClassVar[str] = "instance_offering"

    name: Name
    description: Description = ""
    cpu: CpuCount
    memory: Memory
    allocator_strategy: StrategyName = ""


class UpdateInstanceOffering(UpdateJob[InstanceOffering], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "instance_offering.update",
        "PATCH",
        "/instance-offerings/{uuid}",
        "Change name or description",
        admin=True,
    )
    resource_type: ClassVar[str] = "instance_offering"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class DeleteInstanceOffering(DeleteJob, frozen=True, kw_only=True):
    """VMs made in it keep their size and forget where it came from."""

    api: ClassVar[Api] = Api(
        "instance_offering.delete",
        "DELETE",
        "/instance-offerings/{uuid}",
        "Delete an instance offering",
        admin=True,
    )
    resource_type: ClassVar[str] = "instance_offering"


class EnableInstanceOffering(ActionJob[InstanceOffering], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "instance_offering.enable",
        "POST",
        "/instance-offerings/{uuid}/actions/enable",
        "Allow new VMs in this size",
        admin=True,
    )
    resource_type: ClassVar[str] = "instance_offering"


class DisableInstanceOffering(ActionJob[InstanceOffering], frozen=True, kw_only=True):
    """No VM is made in a disabled size, or given it; those that have it go on."""

    api: ClassVar[Api] = Api(
        "instance_offering.disable",
        "POST",
        "/instance-offerings/{uuid}/actions/disable",
        "Refuse new VMs in this size",
        admin=True,
    )
    resource_type: ClassVar[str] = "instance_offering"


class InstanceOfferingCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "instance_offering.created"
    instance_offering: InstanceOffering


class InstanceOfferingChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "instance_offering.changed"
    instance_offering: InstanceOffering


class InstanceOfferingDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "instance_offering.deleted"
