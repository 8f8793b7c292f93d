"""The identity service, made of its handlers."""

from __future__ import annotations

import logging

from mgmtnode.errors import ApiError, Category
from services.identity.handlers.ownership import OwnershipHandlers
from services.identity.handlers.tokens import TokenHandlers
from services.identity.handlers.users import UserHandlers
from services.identity.properties import ADMIN_PASSWORD

log = logging.getLogger(__name__)


class IdentityService(OwnershipHandlers, UserHandlers, TokenHandlers):
    async def start(self) -> None:
        hashed = await self._admin_hash()
        try:
            await self.node.db.write(lambda tx: self.ensure_admin(tx, hashed))
        except ApiError as exc:
            if exc.category not in (Category.EXISTS, Category.STATE):
                raise
            log.info("another node made the account admin at the same time")
            await self.node.db.write(lambda tx: self.ensure_admin(tx, hashed))

    async def _admin_hash(self) -> str:
        chosen = self.node.properties.get(ADMIN_PASSWORD)
        return await self.passwords.hash(chosen) if chosen else ""
