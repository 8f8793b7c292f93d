"""Whose a resource is, and who else may use it. These messages work on resources of any type."""

from __future__ import annotations

from typing import Annotated, ClassVar

from mgmtnode.bus.message import ActionJob, Api, ApiCall, Event
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import Data, Ref, Uuid


class Ownership(Data, kw_only=True):
    """``shared_with`` lists accounts; ``public``: every account may use it."""

    uuid: Uuid
    type: str
    account_uuid: Uuid
    public: bool
    shared_with: list[Uuid]


class GetOwnership(ApiCall[Ownership], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("resource.ownership", "GET", "/resources/{uuid}/ownership", "Owner and shares")

    uuid: Uuid


class ShareResource(ActionJob[Ownership], frozen=True, kw_only=True):
    """Lets an account, or without one everybody, see and use the resource, not change it."""

    api: ClassVar[Api] = Api(
        "resource.share", "POST", "/resources/{uuid}/actions/share", "Share with accounts"
    )

    account_uuid: Uuid | None = None


class UnshareResource(ActionJob[Ownership], frozen=True, kw_only=True):
    """Takes back what was shared with an account, or without one with everybody. What uses it goes on."""

    api: ClassVar[Api] = Api("resource.unshare", "POST", "/resources/{uuid}/actions/unshare", "Stop sharing")

    account_uuid: Uuid | None = None


class ChangeOwner(ActionJob[Ownership], frozen=True, kw_only=True):
    """Gives the resource to another account, whose quota must allow it."""

    api: ClassVar[Api] = Api(
        "resource.change-owner",
        "POST",
        "/resources/{uuid}/actions/change-owner",
        "Give to an account",
        admin=True,
    )

    account_uuid: Annotated[Uuid, Ref("account")]


class ResourceShared(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "resource.shared"
    account_uuid: Uuid | None = None


class ResourceUnshared(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "resource.unshared"
    account_uuid: Uuid | None = None


class OwnerChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "resource.owner-changed"
    account_uuid: Uuid


NOT_SHAREABLE = ErrorCode(
    "resource.not-shareable", Category.INVALID, "resources of this type stay with their account"
)
