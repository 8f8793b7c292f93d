"""Tags on resources: free text from users, and text that a service declared and gives a meaning to."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import Api, ApiJob, Event, Nothing
from mgmtnode.schema import Data, Resource, Uuid
from mgmtnode.tags.system_tag import TAG_EXISTS, TAG_INHERENT, TAG_INVALID, TAG_UNKNOWN

ERRORS = (TAG_EXISTS, TAG_INHERENT, TAG_INVALID, TAG_UNKNOWN)

TagText = Annotated[str, Meta(min_length=1, max_length=1024)]


class TagKind(StrEnum):
    SYSTEM = "system"
    USER = "user"


class Tag(Data, frozen=True, kw_only=True):
    """Seen by whoever sees the resource. ``inherent``: only its service changes it."""

    uuid: Uuid
    resource_uuid: Uuid
    resource_type: str
    kind: TagKind
    text: str
    inherent: bool
    created_at: datetime


TAG = Resource("tag", "tags", Tag, backed=False)


class CreateUserTag(ApiJob[Tag], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "tag.create-user", "POST", "/resources/{resource_uuid}/user-tags", "Add a user tag"
    )
    target: ClassVar[str] = "resource_uuid"

    resource_uuid: Uuid
    text: TagText


class CreateSystemTag(ApiJob[Tag], frozen=True, kw_only=True):
    """``text`` has the form of a tag declared for the type of the resource."""

    api: ClassVar[Api] = Api(
        "tag.create-system", "POST", "/resources/{resource_uuid}/system-tags", "Add a system tag"
    )
    target: ClassVar[str] = "resource_uuid"

    resource_uuid: Uuid
    text: TagText


class UpdateSystemTag(ApiJob[Tag], frozen=True, kw_only=True):
    """Changes the values in a system tag; its form stays."""

    api: ClassVar[Api] = Api(
        "tag.update", "PATCH", "/resources/{resource_uuid}/tags/{uuid}", "Change a system tag"
    )
    target: ClassVar[str] = "resource_uuid"

    resource_uuid: Uuid
    uuid: Uuid
    text: TagText


class DeleteTag(ApiJob[Nothing], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "tag.delete", "DELETE", "/resources/{resource_uuid}/tags/{uuid}", "Take a tag away"
    )
    target: ClassVar[str] = "resource_uuid"

    resource_uuid: Uuid
    uuid: Uuid


class TagCreated(Event, frozen=True, kw_only=True):
    """On the tagged resource, like all events about tags."""

    name: ClassVar[str] = "tag.created"
    tag: Tag


class TagChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "tag.changed"
    tag: Tag


class TagDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "tag.deleted"
    tag_uuid: Uuid
