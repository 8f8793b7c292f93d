"""Quotas: how much of a thing one account may hold at once."""

from __future__ import annotations

from typing import Protocol

from mgmtnode.bus.message import InTx, Nothing
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.extension.point import extension_point
from mgmtnode.schema import Data, Uuid


class QuotaDefinition(Data):
    """One countable thing: ``vm.num``, ``vm.memory``. ``default`` is an account's limit unless it has its own."""

    name: str
    default: int
    description: str
    unit: str = ""


@extension_point
class QuotaSource(Protocol):
    """A service that has things to count."""

    def quota_definitions(self) -> list[QuotaDefinition]: ...


class ReserveQuota(InTx[Nothing], frozen=True, kw_only=True):
    """Counts ``amounts`` (quota name → amount) against the account, on behalf of ``resource_uuid``, in the creating
    transaction. Free for accounts of the operator. Raises quota.exceeded."""

    account_uuid: Uuid
    resource_uuid: Uuid
    amounts: dict[str, int]


class ReleaseQuota(InTx[Nothing], frozen=True, kw_only=True):
    """Gives back what ``resource_uuid`` counts for: all of it, or the named ones. Nothing held is success."""

    resource_uuid: Uuid
    names: list[str] = []


QUOTA_EXCEEDED = ErrorCode("quota.exceeded", Category.NO_CAPACITY, "the account's quota does not allow it")
QUOTA_UNKNOWN = ErrorCode("quota.unknown", Category.INVALID, "no service counts such a thing")
