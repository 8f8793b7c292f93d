"""Deleting destroyed VMs for good once nobody recovered them in time."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial

from mgmtnode.contracts.vm import ExpungeVm
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import SYSTEM
from mgmtnode.service import NodeContext
from services.vm.config import DELETION_POLICY, EXPUNGE_PERIOD
from services.vm.repository import VmRepository

log = logging.getLogger(__name__)
BATCH = 100
LOWEST = "00000000-0000-0000-0000-000000000000"


class Expunger:
    def __init__(self, node: NodeContext, vms: VmRepository) -> None:
        self._node, self._vms = node, vms

    async def look_through(self) -> None:
        """Submits the expunging of what is due; a VM that was recovered meanwhile refuses it."""
        if self._node.config.get(DELETION_POLICY) == "Never":
            return
        due = self._node.clock.now() - timedelta(seconds=self._node.config.get(EXPUNGE_PERIOD))
        last = LOWEST
        while found := await self._due(due, last):
            last = found[-1]
            for uuid in found:
                if self._node.slots.mine(uuid):
                    await self._expunge(uuid)

    async def _due(self, due: datetime, last: str) -> list[str]:
        read = partial(self._vms.destroyed_before, moment=due, after=last, limit=BATCH)
        return await self._node.db.read(read)

    async def _expunge(self, uuid: str) -> None:
        try:
            await self._node.jobs.accept(ExpungeVm(uuid=uuid), SYSTEM)
        except ApiError as exc:  # expunged or recovered a moment ago: the others go on
            log.info("the VM %s is not expunged: %s", uuid, exc)
