"""Being the node of an installation. This release runs one node at a time: it takes every slot when it starts."""

from __future__ import annotations

from mgmtnode.cluster import repository
from mgmtnode.db.session import Database, Tx
from mgmtnode.db.session_lock import SessionLock
from mgmtnode.ports import UuidSource
from mgmtnode.ring.slots import Slots


class Membership:
    """One incarnation of this node. Fences whatever an earlier one left running."""

    def __init__(
        self, db: Database, slots: Slots, uuids: UuidSource, *, name: str, address: str, version: str
    ) -> None:
        self._db, self._slots, self._uuids = db, slots, uuids
        self._name, self._address, self._version = name, address, version
        self.incarnation = 0

    async def join(self) -> int:
        """Enters the installation and owns all slots; returns the incarnation."""

        def enter(tx: Tx) -> int:
            repository.found_cluster(tx, self._uuids.draw())
            repository.lock_membership(tx)
            incarnation = repository.register(tx, self._name, self._address, self._version)
            repository.take_all_slots(tx, self._name, incarnation)
            repository.fence_open_jobs(tx)
            return incarnation

        self.incarnation = await self._db.write(enter)
        await self.refresh()
        return self.incarnation

    async def refresh(self) -> None:
        """Reads who owns what."""
        version, owners = await self._db.read(repository.slots)
        self._slots.replace(owners, version)

    def evicted(self, lock: SessionLock) -> bool:
        """Whether another node, or a later incarnation of this one, took over. Blocks; asks on the connection of
        ``lock``."""
        found = lock.execute(repository.current(self._name))
        return [tuple(row) for row in found] != [(self.incarnation, "UP")]

    async def leave(self) -> None:
        """Nothing to do for a node that never got in."""
        if self.incarnation:
            await self._db.write(lambda tx: repository.leave(tx, self._name, self.incarnation))
