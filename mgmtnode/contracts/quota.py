"""Quotas: how much of a thing one account may hold at once."""

from __future__ import annotations

from typing import Annotated, ClassVar, Protocol

import msgspec
from msgspec import Meta

from mgmtnode.bus.message import Api, ApiCall, Event, InTx, Nothing, UpdateJob
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.extension.point import extension_point
from mgmtnode.schema import UNSET, Data, Inventory, Ref, Resource, UnsetType, Uuid

UNLIMITED = -1
Limit = Annotated[int, Meta(ge=UNLIMITED, le=1 << 60, description="-1 is no limit")]


class Quota(Inventory):
    """What one account may hold of the thing called ``name``. ``overridden``: not the default."""

    account_uuid: Annotated[Uuid, Ref("account")]
    value: int
    overridden: bool
    unit: str


QUOTA = Resource("quota", "quotas", Quota, owned=True)


class UpdateQuota(UpdateJob[Quota], frozen=True, kw_only=True):
    """Gives the account a limit of its own; null goes back to the default. A limit below what is held refuses
    more, and takes nothing away."""

    api: ClassVar[Api] = Api(
        "quota.update", "PATCH", "/quotas/{uuid}", "Change an account's limit", admin=True
    )
    resource_type: ClassVar[str] = "quota"

    value: Limit | UnsetType | None = UNSET


class QuotaUsage(Data, kw_only=True):
    name: str
    used: int
    value: int
    unit: str


class AccountUsage(Data, kw_only=True):
    account_uuid: Uuid
    items: list[QuotaUsage]


class GetQuotaUsage(ApiCall[AccountUsage], frozen=True, kw_only=True):
    """What the account holds against its limits. Accounts of the operator are not counted."""

    api: ClassVar[Api] = Api("quota.usage", "GET", "/accounts/{uuid}/quota-usage", "What an account holds")

    uuid: Annotated[Uuid, Ref("account")]


class QuotaChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "quota.changed"
    quota: Quota


class QuotaDefinition(Data, kw_only=True):
    """One countable thing: ``vm.num``, ``vm.memory``. ``default`` is the limit of who has no own."""

    name: str
    default: int
    description: str
    unit: str = ""


@extension_point
class QuotaSource(Protocol):
    """A service that has things to count."""

    def quota_definitions(self) -> list[QuotaDefinition]: ...


class ReserveQuota(InTx[Nothing], frozen=True, kw_only=True):
    """Counts ``amounts`` (quota name → amount) against the account, on behalf of ``resource_uuid``, in the
    creating transaction. ``force``: also beyond the limit, for what is held already. Free for accounts of the
    operator. Raises quota.exceeded."""

    account_uuid: Uuid
    resource_uuid: Uuid
    amounts: dict[str, int]
    force: bool = False


class ReleaseQuota(InTx[Nothing], frozen=True, kw_only=True):
    """Gives back what ``resource_uuid`` counts for: all of it, or the named ones. Nothing held is success."""

    resource_uuid: Uuid
    names: list[str] = msgspec.field(default_factory=list)


QUOTA_EXCEEDED = ErrorCode("quota.exceeded", Category.NO_CAPACITY, "the account's quota does not allow it")
QUOTA_UNKNOWN = ErrorCode("quota.unknown", Category.INVALID, "no service counts such a thing")
