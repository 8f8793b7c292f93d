"""Quotas: limits by account, and counting against them inside the transactions of others."""

from __future__ import annotations

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.identity import ACCOUNT, AccountType
from mgmtnode.contracts.quota import (
    QUOTA_EXCEEDED,
    QUOTA_UNKNOWN,
    AccountUsage,
    GetQuotaUsage,
    Quota,
    QuotaChanged,
    QuotaDefinition,
    QuotaSource,
    ReleaseQuota,
    ReserveQuota,
    UpdateQuota,
)
from mgmtnode.db.session import Tx
from mgmtnode.errors import INVALID, NOT_FOUND
from mgmtnode.jobs import ledger
from mgmtnode.jobs.job import Caller
from mgmtnode.schema import changes
from mgmtnode.service import NodeContext, handler, job
from services.identity import validate as check
from services.identity.handlers.parts import Parts
from services.identity.repository.quotas import PREFIX, kind_of

TYPES_KEPT = 10_000


class QuotaHandlers(Parts):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self._types: dict[str, AccountType] = {}  # the type of an account never changes

    def quota_definitions(self) -> list[QuotaDefinition]:
        """Of all services of this node."""
        sources = self.node.extensions.all(QuotaSource)
        return [each for source in sources for each in source.quota_definitions()]

    @job()
    def update_quota(self, tx: Tx, msg: UpdateQuota) -> Quota:
        found = self.quotas.get(tx, msg.uuid)
        sent = changes(msg, "uuid")
        if not sent:
            return found
        value = sent["value"]
        limit = self._definition(found.name).default if value is None else value
        quota = self.quotas.set(tx, found, limit, overridden=value is not None)
        tx.record(QuotaChanged(resource_uuid=quota.uuid, quota=quota))
        return quota

    @handler()
    async def quota_usage(self, msg: GetQuotaUsage, caller: Caller) -> AccountUsage:
        return await self.node.db.read(lambda tx: self._usage(tx, msg.uuid, caller))

    @handler()
    def reserve_quota(self, tx: Tx, msg: ReserveQuota) -> Nothing:
        if not self.counted(tx, msg.account_uuid):
            return NOTHING
        amounts = {name: _checked(name, amount) for name, amount in msg.amounts.items() if amount}
        if not self._take(tx, msg, amounts):
            for name in sorted(amounts):  # in one order, so that two never wait for each other
                self._reserve(tx, msg, name, amounts[name])
        return NOTHING

    @handler()
    def release_quota(self, tx: Tx, msg: ReleaseQuota) -> Nothing:
        held = {kind for _, kind in ledger.held(tx, msg.resource_uuid) if kind.startswith(PREFIX)}
        kinds = held & {kind_of(n) for n in msg.names} if msg.names else held
        if kinds:
            ledger.free(tx, msg.resource_uuid, kinds=sorted(kinds))
        return NOTHING

    def move_quota(self, tx: Tx, resource_uuid: str, account_uuid: str) -> None:
        """What the resource counts for, counts for another account now. Raises quota.exceeded."""
        held = {
            k.removeprefix(PREFIX): n
            for (_, k), n in ledger.held(tx, resource_uuid).items()
            if k.startswith(PREFIX)
        }
        if held:
            ledger.free(tx, resource_uuid, kinds=[kind_of(name) for name in held])
            self.reserve_quota(
                tx, ReserveQuota(account_uuid=account_uuid, resource_uuid=resource_uuid, amounts=held)
            )

    def counted(self, tx: Tx, account_uuid: str) -> bool:
        """Whether quotas hold for the account. Raises core.not-found."""
        kind = self._types.get(account_uuid) or self.accounts.type_of(tx, account_uuid)
        if kind is None:
            raise NOT_FOUND.error(f"there is no account {account_uuid}", resource=account_uuid)
        if len(self._types) < TYPES_KEPT:
            self._types[account_uuid] = kind
        return kind is not AccountType.SYSTEM_ADMIN

    def _reserve(self, tx: Tx, msg: ReserveQuota, name: str, amount: int) -> None:
        """Raises quota.exceeded."""
        if self._take(tx, msg, {name: amount}):
            return
        definition = self._definition(name)
        self.accounts.lock(tx, msg.account_uuid)
        self.quotas.ensure(tx, msg.account_uuid, [definition])  # a service may be newer than the account
        if not self._take(tx, msg, {name: amount}):
            used, limit = ledger.usage(tx, msg.account_uuid, kind_of(name))
            raise QUOTA_EXCEEDED.error(
                f"{name}: {used} of {limit} {definition.unit} used, {amount} more asked".replace("  ", " "),
                resource=msg.account_uuid,
                quota=name,
                limit=limit,
                used=used,
                asked=amount,
            )

    def _take(self, tx: Tx, msg: ReserveQuota, amounts: dict[str, int]) -> bool:
        """All of it, or nothing."""
        return ledger.reserve_all(
            tx,
            msg.account_uuid,
            {kind_of(name): amount for name, amount in amounts.items()},
            holder=msg.resource_uuid,
            draw=self.node.uuids.draw,
            force=msg.force,
        )

    def _definition(self, name: str) -> QuotaDefinition:
        for each in self.quota_definitions():
            if each.name == name:
                return each
        raise QUOTA_UNKNOWN.error(f"no service on this node counts {name!r}")

    def _usage(self, tx: Tx, uuid: str, caller: Caller) -> AccountUsage:
        check.own(tx, caller, ACCOUNT, uuid)
        return AccountUsage(account_uuid=uuid, items=self.quotas.usage(tx, uuid))


def _checked(name: str, amount: int) -> int:
    if amount < 0:
        raise INVALID.error(f"{amount} of {name} cannot be reserved")
    return amount
