"""Moving slots between nodes that live: the old owner stops working in them, hands them over, and tells.

A move is a takeover with good manners: the new owner finds the jobs as after a crash, only that none is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context

from mgmtnode.cluster import repository
from mgmtnode.cluster.membership import Membership
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import ApiError
from mgmtnode.jobs.repository import Fenced, JobRepository
from mgmtnode.jobs.runner import Runner
from mgmtnode.ports import Clock
from mgmtnode.ring.slots import Slots

log = logging.getLogger(__name__)

BUSY_PACE_SECONDS = 1.0  # between batches that hold work: others have the new owner's caches to fill, too
IDLE_PACE_SECONDS = 0.1
PATIENCE_SECONDS = 1.0  # running steps have to end by themselves before their jobs are suspended
OVERDUE_SECONDS = 5.0  # an owner that hands over nothing for so long is not waited for
LOOK_SECONDS = 1.0


class Rebalancer:
    """Runs on every node: hands over the slots that are to leave it, and takes those that are due and do not come.
    ``batch``: slots that move together."""

    def __init__(
        self,
        db: Database,
        slots: Slots,
        membership: Membership,
        runner: Runner,
        jobs: JobRepository,
        clock: Clock,
        *,
        batch: int,
    ) -> None:
        self._db, self._slots, self._membership = db, slots, membership
        self._batch = batch
        self._runner, self._jobs, self._clock = runner, jobs, clock
        self._due: dict[str, tuple[int, float]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._empty: list[asyncio.Future[None]] = []
        self.handed_over = self.taken = 0

    def start(self) -> None:
        self._slots.on_change(self._wake.set)
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="rebalancer", context=Context())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def until_empty(self, seconds: float) -> bool:
        """Whether all that is to leave this node has gone within ``seconds``."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._slots.leaving():
            self._wake.set()
            left = until - loop.time()
            if left <= 0:
                return False
            future = loop.create_future()
            self._empty.append(future)
            await asyncio.wait([future], timeout=min(left, LOOK_SECONDS))
        return True

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause = BUSY_PACE_SECONDS
            try:
                await self._membership.lease.gate()
                await self._take_overdue()
                if leaving := self._slots.leaving():
                    busy = await self._hand_over(leaving[: self._batch])
                    pause = BUSY_PACE_SECONDS if busy else IDLE_PACE_SECONDS
            except ApiError as error:
                log.warning("slots could not be moved: %s; trying again", error)
            except Fenced:
                return
            if self._slots.leaving():
                await asyncio.sleep(pause)
            else:
                await self._sleep(LOOK_SECONDS)

    async def _sleep(self, seconds: float) -> None:
        """Until something changes, at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _hand_over(self, slots: Sequence[int]) -> bool:
        """Whether there was work in them."""
        busy = self._runner.hold(slots)
        try:
            stubborn = await self._runner.suspend(slots, PATIENCE_SECONDS)
            moved = await self._db.write(lambda tx: self._move(tx, slots, stubborn))
            self.handed_over += moved
            await self._membership.refresh()
        finally:
            self._runner.release(slots)
        self._membership.tell()
        self._tell_empty()
        log.debug("handed over %d slots", moved)
        if not self._slots.leaving():
            log.info("handed over all slots that were to go")
        return busy

    def _move(self, tx: Tx, slots: Sequence[int], stubborn: Sequence[str]) -> int:
        """Nobody works on the jobs in these slots now. So they are handed over in those that stay after all, too, since
        nobody may take them: who goes on with them, be it this node, must not think that they made a node crash."""
        me, incarnation = self._slots.me, self._membership.incarnation
        repository.lock(tx)
        self._jobs.hand_over_slots(tx, repository.owned(tx, me, incarnation, slots), me, stubborn)
        moves = repository.moving(tx, me, incarnation, slots)
        if moves:
            repository.move(tx, moves)
        return sum(map(len, moves.values()))

    def _take(self, tx: Tx, owner: str, slots: Sequence[int]) -> int:
        me = self._slots.me
        repository.lock(tx)
        mine = repository.moving(tx, owner, None, slots).get(me, [])
        if mine:
            repository.move(tx, {me: mine})
        return len(mine)

    async def _take_overdue(self) -> None:
        """Takes slots whose owner was to hand them to this node and has stopped doing so."""
        now = self._clock.monotonic()
        coming = self._slots.coming()
        self._due = {owner: self._due.get(owner, (0, now)) for owner in coming}
        for owner, slots in coming.items():
            count, since = self._due[owner]
            if count != len(slots):
                self._due[owner] = (len(slots), now)
            elif now - since >= OVERDUE_SECONDS:
                await self._take_from(owner, slots[: self._batch])

    async def _take_from(self, owner: str, slots: Sequence[int]) -> None:
        taken = await self._db.write(lambda tx: self._take(tx, owner, slots))
        self.taken += taken
        self._due[owner] = (0, self._clock.monotonic())  # else the next look would come at once
        await self._membership.refresh()
        if not taken:
            return
        self._membership.tell()
        log.warning("took %d slots that %s was to hand over and did not", taken, owner)

    def _tell_empty(self) -> None:
        waiting, self._empty = self._empty, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
