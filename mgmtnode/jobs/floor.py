"""Below which run number all jobs have ended for good: what host agents may forget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mgmtnode.db import resource
from mgmtnode.db.session import Database, Tx
from mgmtnode.jobs.repository import JobRepository

SETTLED_SECONDS = 60.0  # much more than a transaction may last; the database ends those that idle or hang


class RunFloor:
    """A job's number is drawn before its acceptance commits, so a lower one may still become visible than the highest
    that is. Hence a floor is never above what was the highest some time ago: all below that are visible now or never.
    """

    def __init__(self, db: Database, repository: JobRepository) -> None:
        self._db, self._jobs = db, repository
        self._settled = 0
        self._seen: tuple[float, int] | None = None

    async def read(self) -> int:
        """No job below it is open or will ever be. 0 in the first minute that this is asked for."""
        asked_at = asyncio.get_running_loop().time()
        lowest, highest = await self._db.read(self._jobs.runs)
        if self._seen is None:
            self._seen = asked_at, highest
        elif asked_at - self._seen[0] >= SETTLED_SECONDS:
            self._settled, self._seen = self._seen[1] + 1, (asked_at, highest)
        return self._settled if lowest is None else min(lowest, self._settled)

    async def over(self, uuids: Sequence[str], floor: int) -> set[str]:
        """Those of the resources that are no more, and on which no job from ``floor`` on has ever worked."""

        def look(tx: Tx) -> set[str]:
            return (
                set(uuids) - resource.known(tx, uuids).keys() - self._jobs.worked_on_since(tx, uuids, floor)
            )

        return await self._db.read(look)
