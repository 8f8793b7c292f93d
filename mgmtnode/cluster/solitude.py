"""Making sure that nobody else is there, before a node registers.

A name belongs to one process: who restarts under it succeeds the one before, but not one that lives. And without a
message broker a node must be the only one of its database.
"""

from __future__ import annotations

import asyncio

from mgmtnode.cluster import repository
from mgmtnode.cluster.lease import STALE_SECONDS
from mgmtnode.cluster.observer import GONE_SECONDS, YOUNG_SECONDS
from mgmtnode.cluster.records import Beat, LeaseRow
from mgmtnode.db.session import Database, Tx
from mgmtnode.ports import Clock

LOOK_SECONDS = 0.25


class NodeRuns(Exception):
    """A node that must not run beside this one lives. The text says which, and what to do."""


class Solitude:
    """``alone``: no node of any name may live; otherwise only none of this name."""

    def __init__(self, db: Database, clock: Clock, name: str, *, alone: bool) -> None:
        self._db, self._clock, self._name, self._alone = db, clock, name, alone

    async def ensure(self) -> None:
        """Returns once whoever is in the way is dead, evicting it if it has another name. Raises NodeRuns if it
        lives; that takes some seconds to find out."""
        seen: dict[LeaseRow, float] = {}
        first: dict[str, LeaseRow] = {}
        while rivals := await self._rivals():
            now, age = self._clock.monotonic(), rivals.server_age
            waiting = False
            for rival in rivals.leases:
                known = first.setdefault(rival.name, rival)
                if (known.incarnation, known.hb_seq) != (rival.incarnation, rival.hb_seq):
                    raise NodeRuns(self._refusal(rival))
                still = now - seen.setdefault(known, now)
                waiting |= still < self._limit(rival, age)
            if not waiting:
                await self._succeed(rivals.leases)
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _rivals(self) -> Beat | None:
        """Whoever is in the way."""

        def look(tx: Tx) -> Beat:
            return repository.look(tx.execute, tx.dialect)

        beat = await self._db.read(look)
        rivals = [lease for lease in beat.leases if self._alone or lease.name == self._name]
        return beat._replace(leases=rivals) if rivals else None

    def _limit(self, rival: LeaseRow, server_age: float) -> float:
        """How long it must have stood still. Under this name, a lock that is free is enough: it has restarted. On
        SQLite the lock on the file's directory has shown already that nobody else is there."""
        if self._db.dialect == "sqlite":
            return 0.0
        if rival.locked or server_age < YOUNG_SECONDS:
            return STALE_SECONDS
        return 0.0 if rival.name == self._name else GONE_SECONDS

    async def _succeed(self, rivals: list[LeaseRow]) -> None:
        """Evicts those of other names; that of this name is superseded when this node registers."""

        def end(tx: Tx) -> None:
            repository.lock(tx)
            nodes = repository.present(tx)
            for rival in rivals:
                if rival.name != self._name and repository.drop_lease(
                    tx, rival.name, rival.incarnation, rival.hb_seq
                ):
                    repository.end_sessions(tx, nodes[rival.name].label)
                    repository.evicted(tx, rival.name, rival.incarnation)

        await self._db.write(end)

    def _refusal(self, rival: LeaseRow) -> str:
        if rival.name == self._name:
            return (
                f"a node named {rival.name!r} runs in this cluster already: give this one another node.name"
            )
        return (
            f"the node {rival.name!r} runs on this database already, and nodes find each other through a message "
            "broker: set bus.url on both, or stop that one first"
        )
