"""Zones: the largest unit of an installation. The smallest contract; read this one first."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from mgmtnode.bus.message import ActionJob, Api, CreateJob, DeleteJob, Event, InTx, UpdateJob
from mgmtnode.schema import UNSET, Description, Inventory, Name, Ref, Resource, UnsetType, Uuid


class ZoneState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Zone(Inventory):
    state: ZoneState


ZONE = Resource("zone", "zones", Zone)


class CreateZone(CreateJob[Zone], frozen=True, kw_only=True):
    """Makes a zone, enabled."""

    api: ClassVar[Api] = Api("zone.create", "POST", "/zones", "Create a zone", admin=True)
    creates: ClassVar[str] = "zone"

    name: Name
    description: Description = ""


class UpdateZone(UpdateJob[Zone], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "zone.update", "PATCH", "/zones/{uuid}", "Change name or description", admin=True
    )
    resource_type: ClassVar[str] = "zone"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class DeleteZone(DeleteJob, frozen=True, kw_only=True):
    """Deletes the zone and all in it, from the leaves up."""

    api: ClassVar[Api] = Api(
        "zone.delete", "DELETE", "/zones/{uuid}", "Delete a zone and all in it", admin=True
    )
    resource_type: ClassVar[str] = "zone"


class EnableZone(ActionJob[Zone], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "zone.enable", "POST", "/zones/{uuid}/actions/enable", "Allow placement", admin=True
    )
    resource_type: ClassVar[str] = "zone"


class DisableZone(ActionJob[Zone], frozen=True, kw_only=True):
    """Nothing new is placed in a disabled zone; what runs there goes on."""

    api: ClassVar[Api] = Api(
        "zone.disable", "POST", "/zones/{uuid}/actions/disable", "Refuse placement", admin=True
    )
    resource_type: ClassVar[str] = "zone"


class GetZone(InTx[Zone], frozen=True, kw_only=True):
    uuid: Annotated[Uuid, Ref("zone")]


class ZoneCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "zone.created"
    zone: Zone


class ZoneChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "zone.changed"
    zone: Zone


class ZoneDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "zone.deleted"
