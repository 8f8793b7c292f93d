"""Being one of the nodes: entering, showing that one lives, giving slots away, leaving; and evicting who is dead.

register   JOINING   an incarnation, and a heartbeat; it has the slots of its earlier life, if any
enter      UP        gets its share of the slots, at once where nobody has them, else handed over one by one
withdraw   DRAINING  its slots are to go to the others
leave      LEFT
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import ClassVar

from mgmtnode.bus.message import Event
from mgmtnode.cluster import repository
from mgmtnode.cluster.heart import Heart
from mgmtnode.cluster.lease import Lease
from mgmtnode.cluster.observer import Observer
from mgmtnode.cluster.records import Beat, Identity, LeaseRow, NodeState
from mgmtnode.cluster.repository import Execute
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import ApiError
from mgmtnode.ports import Clock, UuidSource
from mgmtnode.ring.slots import Slots

log = logging.getLogger(__name__)

Load = Callable[[], tuple[int, int]]


class RingChanged(Event, frozen=True, kw_only=True):
    """Slots or nodes have changed: every node looks at once instead of with its next heartbeat. ``resource_uuid`` is
    the cluster's."""

    name: ClassVar[str] = "cluster.ring-changed"
    prompt: ClassVar[bool] = True
    version: int


class Membership:
    """One incarnation of this node. ``announce`` tells the other nodes; ``load`` answers how many jobs run and wait.
    ``cluster``: its uuid, once registered."""

    def __init__(
        self,
        me: Identity,
        db: Database,
        slots: Slots,
        *,
        heart: Heart,
        lease: Lease,
        clock: Clock,
        uuids: UuidSource,
    ) -> None:
        self.me, self.lease = me, lease
        self._db, self._slots, self._heart = db, slots, heart
        self._clock, self._uuids = clock, uuids
        self.observer = Observer(me.name)
        self.incarnation = 0
        self.state = NodeState.JOINING
        self.beat = Beat(False, 0, [], 0.0)
        self.evictions = 0
        self.announce: Callable[[Event], None] = lambda event: None
        self.load: Load = lambda: (0, 0)
        self.draining = asyncio.Event()
        self.cluster = ""
        self._renewed_at = 0.0
        self._refreshing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def register(self) -> int:
        """Enters the cluster as a node that boots, and begins to beat; returns the incarnation. Called again when the
        database went away in the middle of it: what was written down stays as it is."""

        def enter(tx: Tx) -> int:
            repository.found_cluster(tx, self._uuids.draw())
            self.cluster = repository.lock(tx)
            return repository.register(tx, self.me)

        if not self.incarnation:
            sent_at = self._clock.monotonic()
            self.incarnation = await self._db.write(enter)
            self.lease.renewed(sent_at)
            self._heart.start(self._pulse, self._told)
        await self.refresh()
        return self.incarnation

    async def enter(self) -> None:
        """Takes part in the work from now on. Called again when nobody heard whether it does already."""
        await self._change((NodeState.JOINING, NodeState.UP), NodeState.UP)

    async def withdraw(self) -> None:
        """Asks for this node's slots to go to the others; they go one by one, see Rebalancer."""
        if self.state is NodeState.UP:
            await self._change((NodeState.UP, NodeState.DRAINING), NodeState.DRAINING)

    async def leave(self) -> None:
        """Leaves the cluster, whatever state it is in. Nothing to do for a node that never got in."""
        for task in self._tasks:
            task.cancel()
        await self._heart.stop()
        if not self.incarnation or self.lease.lost.is_set():
            return

        def go(tx: Tx) -> bool:
            repository.lock(tx)
            here = (NodeState.JOINING, NodeState.UP, NodeState.DRAINING)
            if not repository.set_state(tx, self.me.name, self.incarnation, here, NodeState.LEFT):
                return False
            repository.drop_lease(tx, self.me.name, self.incarnation)
            repository.distribute(tx)
            return True

        if await self._db.write(go):
            self.state = NodeState.LEFT
            await self.refresh()
            self.tell()

    async def evict(self, other: LeaseRow) -> bool:
        """Takes the work of a node that has stood still. False if it has moved since, or somebody was faster."""

        def end(tx: Tx) -> bool:
            repository.lock(tx)
            if not repository.drop_lease(tx, other.name, other.incarnation, other.hb_seq):
                return False
            gone = repository.present(tx).get(other.name)
            if gone is not None and gone.incarnation == other.incarnation:
                repository.end_sessions(tx, gone.label)
                repository.evicted(tx, other.name, other.incarnation)
            repository.distribute(tx)
            return True

        if not await self._db.write(end):
            return False
        self.evictions += 1
        log.warning("evicted the node %s (incarnation %d): it stood still", other.name, other.incarnation)
        await self.refresh()
        self.tell()
        return True

    async def refresh(self) -> None:
        """Reads who owns what."""
        async with self._refreshing:
            version, owners, nodes = await self._db.read(repository.view)
            self._slots.replace(owners, version, nodes)

    async def ring_changed(self, event: RingChanged) -> None:
        if event.version > self._slots.version:
            await self.refresh()

    def tell(self) -> None:
        """Makes the other nodes look."""
        self.announce(RingChanged(resource_uuid=self.cluster, version=self._slots.version))

    def lease_age(self, name: str) -> float:
        """Seconds since the node's heartbeat was seen to move from here."""
        now = self._clock.monotonic()
        if name != self.me.name:
            return self.observer.age(now, name)
        return now - self._renewed_at if self._renewed_at else 0.0

    # what the heart says

    def _pulse(self, execute: Execute) -> Beat:
        return repository.renew(execute, self._db.dialect, self.me.name, self.incarnation, self.load())

    def _told(self, sent_at: float, beat: Beat) -> None:
        if not beat.renewed:
            self.lease.lose()
            return
        self._renewed_at = sent_at
        self.lease.renewed(sent_at)
        self.beat = beat
        if beat.state_of(self.me.name) is NodeState.DRAINING:
            self.state = NodeState.DRAINING
            self.draining.set()
        still = self.observer.seen(self._clock.monotonic(), beat)
        if (still or beat.ring_version > self._slots.version) and not self._tasks:
            self._soon(still)

    def _soon(self, still: Sequence[LeaseRow]) -> None:
        task = asyncio.get_running_loop().create_task(self._react(still))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _react(self, still: Sequence[LeaseRow]) -> None:
        try:
            for other in still:
                await self.evict(other)
            await self.refresh()
        except ApiError as error:
            log.warning("the ring could not be looked at: %s; again with the next heartbeat", error)

    async def _change(self, before: Sequence[NodeState], after: NodeState) -> None:
        """Raises Fenced when this node does not belong to the cluster any more."""

        def change(tx: Tx) -> bool:
            repository.lock(tx)
            if not repository.set_state(tx, self.me.name, self.incarnation, before, after):
                return False
            repository.distribute(tx)
            return True

        if not await self._db.write(change):
            self.lease.lose()
        await self.lease.gate()
        self.state = after
        await self.refresh()
        self.tell()
