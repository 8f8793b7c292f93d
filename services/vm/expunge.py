"""Deleting destroyed VMs for good once nobody recovered them in time."""

from __future__ import annotations

from datetime import timedelta

from mgmtnode.contracts.vm import ExpungeVm
from mgmtnode.jobs.job import SYSTEM
from mgmtnode.service import NodeContext
from services.vm.config import DELETION_POLICY, EXPUNGE_PERIOD
from services.vm.repository import VmRepository

BATCH = 100


class Expunger:
    def __init__(self, node: NodeContext, vms: VmRepository) -> None:
        self._node, self._vms = node, vms

    async def look_through(self) -> None:
        """Submits the expunging of what is due; the jobs themselves check again."""
        if self._node.config.get(DELETION_POLICY) == "Never":
            return
        due = self._node.clock.now() - timedelta(seconds=self._node.config.get(EXPUNGE_PERIOD))
        found = await self._node.db.read(lambda tx: self._vms.destroyed_before(tx, due, BATCH))
        for uuid in found:
            if self._node.slots.mine(uuid):
                await self._node.jobs.accept(ExpungeVm(uuid=uuid), SYSTEM)
