"""Sharing resources, and giving them to another account."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from mgmtnode.bus.message import Event
from mgmtnode.contracts.ownership import (
    NOT_SHAREABLE,
    ChangeOwner,
    GetOwnership,
    OwnerChanged,
    Ownership,
    ResourceShared,
    ResourceUnshared,
    ShareResource,
    UnshareResource,
)
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND
from mgmtnode.jobs.job import Caller
from mgmtnode.schema import Resource
from mgmtnode.service import handler, job, validate
from services.identity.handlers.quotas import QuotaHandlers
from services.identity.repository.ownership import ownership_of, parts_of, whole_of

if TYPE_CHECKING:
    from sqlalchemy import Table

STAYS = frozenset({"account", "user", "policy", "api_key", "quota", "session"})


class OwnershipHandlers(QuotaHandlers):
    @handler()
    async def get_ownership(self, msg: GetOwnership, caller: Caller) -> Ownership:
        return await self.node.db.read(lambda tx: self._owned(tx, msg.uuid, caller))

    @validate
    def check_share(self, tx: Tx, msg: ShareResource, caller: Caller) -> None:
        self._movable(self._owned(tx, msg.uuid, caller))
        if msg.account_uuid is not None:
            self._known(tx, msg.account_uuid)

    @job()
    def share(self, tx: Tx, msg: ShareResource) -> Ownership:
        resource.share_with(tx, msg.uuid, msg.account_uuid or resource.PUBLIC)
        return self._told(tx, ResourceShared(resource_uuid=msg.uuid, account_uuid=msg.account_uuid))

    @validate
    def check_unshare(self, tx: Tx, msg: UnshareResource, caller: Caller) -> None:
        self._owned(tx, msg.uuid, caller)

    @job()
    def unshare(self, tx: Tx, msg: UnshareResource) -> Ownership:
        resource.unshare(tx, msg.uuid, msg.account_uuid or resource.PUBLIC)
        return self._told(tx, ResourceUnshared(resource_uuid=msg.uuid, account_uuid=msg.account_uuid))

    @validate
    def check_change_owner(self, tx: Tx, msg: ChangeOwner, caller: Caller) -> None:
        found = self._owned(tx, msg.uuid, caller)
        self._movable(found)
        self._known(tx, msg.account_uuid)
        kind = declared(self.modules()).get(found.type)
        if kind is None or not kind.owned:
            raise NOT_SHAREABLE.error(f"every {found.type} belongs to the operator", resource=msg.uuid)
        if whole := whole_of(self._tables(), found.type):
            raise NOT_SHAREABLE.error(f"a {found.type} belongs to whoever has its {whole}", resource=msg.uuid)

    @job()
    def change_owner(self, tx: Tx, msg: ChangeOwner) -> Ownership:
        for part in parts_of(tx, self._tables(), ownership_of(tx, msg.uuid)):
            self._give(tx, part.uuid, msg.account_uuid)
        return self._give(tx, msg.uuid, msg.account_uuid)

    def _give(self, tx: Tx, uuid: str, account_uuid: str) -> Ownership:
        self.move_quota(tx, uuid, account_uuid)
        resource.change_owner(tx, uuid, account_uuid)
        resource.unshare(tx, uuid, account_uuid)
        return self._told(tx, OwnerChanged(resource_uuid=uuid, account_uuid=account_uuid))

    def modules(self) -> list[ModuleType]:
        """The contracts of all services of this node."""
        return [module for manifest in self.node.manifests.values() for module in manifest.contract]

    def _tables(self) -> list[Table]:
        return [table for manifest in self.node.manifests.values() for table in manifest.tables]

    def _told(self, tx: Tx, event: Event) -> Ownership:
        tx.record(event)
        return ownership_of(tx, event.resource_uuid)

    def _owned(self, tx: Tx, uuid: str, caller: Caller) -> Ownership:
        """Raises core.not-found also for what belongs to others, shared or not."""
        found = ownership_of(tx, uuid)
        if not caller.admin and found.account_uuid != caller.account_uuid:
            raise NOT_FOUND.error(f"there is no resource {uuid}", resource=uuid)
        return found

    def _movable(self, found: Ownership) -> None:
        if found.type in STAYS:
            raise NOT_SHAREABLE.error(f"a {found.type} stays with its account", resource=found.uuid)

    def _known(self, tx: Tx, account_uuid: str) -> None:
        if not self.accounts.exists(tx, account_uuid):
            raise NOT_FOUND.error(f"there is no account {account_uuid}", resource=account_uuid)


def declared(modules: list[ModuleType]) -> dict[str, Resource]:
    """The resources that contracts declare, by type."""
    found = (value for module in modules for value in vars(module).values() if isinstance(value, Resource))
    return {each.type: each for each in found}
