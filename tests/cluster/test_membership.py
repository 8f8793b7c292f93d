"""Nodes that come and go on one database: who owns what, and what becomes of a stale owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mgmtnode.cluster import repository, survey
from mgmtnode.cluster.heart import NoHeart
from mgmtnode.cluster.lease import Lease
from mgmtnode.cluster.membership import Membership
from mgmtnode.cluster.records import Identity, LeaseRow, NodeState
from mgmtnode.db.engine import open_database
from mgmtnode.db.schema import upgrade
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.errors import DATABASE_DOWN, ApiError
from mgmtnode.jobs.repository import Fenced, JobRepository
from mgmtnode.loader import discover
from mgmtnode.ports import SystemClock, SystemRng, UuidSource
from mgmtnode.ring.hash_ring import propose
from mgmtnode.ring.slots import SLOTS, Slots

Story = Callable[[SqlDatabase], Coroutine[Any, Any, None]]
Play = Callable[[Story], None]


@pytest.fixture
def play(empty_database_url: str, tmp_path: Any) -> Play:
    """Runs a story on a fresh database with the core's schema."""
    url = empty_database_url or f"sqlite:///{tmp_path / 'test.db'}"

    async def run(story: Story) -> None:
        db = open_database(url, SystemClock())
        await asyncio.to_thread(upgrade, db, discover(["zone"]))
        try:
            await story(db)
        finally:
            await db.close()

    return lambda story: asyncio.run(run(story))


def node(db: SqlDatabase, name: str) -> Membership:
    clock = SystemClock()
    return Membership(
        Identity(name, f"{name}:8080", "1", f"mn/{name}/00"), db, Slots(name),
        heart=NoHeart(), lease=Lease(clock), clock=clock, uuids=UuidSource(clock, SystemRng()),
    )  # fmt: skip


async def joined(db: SqlDatabase, name: str) -> Membership:
    member = node(db, name)
    await member.register()
    await member.enter()
    return member


async def owners(db: SqlDatabase) -> dict[int, repository.SlotRow]:
    return {row.slot: row for row in await db.read(repository.slot_rows)}


async def hand_over_all(db: SqlDatabase, member: Membership) -> int:
    """What the rebalancer does, in one go."""

    def move(tx: Any) -> int:
        repository.lock(tx)
        moves = repository.moving(tx, member.me.name, member.incarnation, range(SLOTS))
        if moves:
            repository.move(tx, moves)
        return sum(map(len, moves.values()))

    moved = await db.write(move)
    await member.refresh()
    return moved


async def lease_of(db: SqlDatabase, name: str) -> LeaseRow:
    beat = await db.read(lambda tx: repository.look(tx.execute, tx.dialect))
    return next(lease for lease in beat.leases if lease.name == name)


def test_the_first_node_has_every_slot_and_a_second_one_only_its_share(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a = await joined(db, "a")
        assert {row.owner for row in (await owners(db)).values()} == {"a"}
        before = await owners(db)
        b = await joined(db, "b")
        planned = {slot for slot, row in (await owners(db)).items() if row.target == "b"}
        assert planned == {slot for slot, name in enumerate(propose(["a", "b"])) if name == "b"}
        assert await hand_over_all(db, a) == len(planned)
        after = await owners(db)
        assert {slot for slot in after if after[slot].owner == "b"} == planned
        assert all(after[s].epoch == before[s].epoch + (s in planned) for s in after)
        await b.refresh()
        assert set(b._slots.own_slots()) == planned

    play(story)


def test_a_third_node_takes_its_share_from_both_and_moves_nothing_between_them(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a, b = await joined(db, "a"), await joined(db, "b")
        await hand_over_all(db, a)
        before = await owners(db)
        await joined(db, "c")
        moved = await hand_over_all(db, a) + await hand_over_all(db, b)
        after = await owners(db)
        changed = {slot for slot in after if after[slot].owner != before[slot].owner}
        assert len(changed) == moved and {after[slot].owner for slot in changed} == {"c"}
        assert 0.23 < moved / SLOTS < 0.43

    play(story)


class Blinking:
    """The database, of which ``away`` reads go unanswered."""

    def __init__(self, db: SqlDatabase) -> None:
        self._db, self.away = db, 0
        self.dialect = db.dialect

    async def write(self, work: Callable[[Tx], Any]) -> Any:
        return await self._db.write(work)

    async def read(self, work: Callable[[Tx], Any]) -> Any:
        if self.away:
            self.away -= 1
            raise DATABASE_DOWN.error("gone")
        return await self._db.read(work)


class CountedHeart(NoHeart):
    def __init__(self) -> None:
        self.started = 0

    def start(self, pulse: Any, told: Any) -> None:
        self.started += 1


def test_a_node_whose_database_goes_away_while_it_boots_registers_and_enters_once(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        blinking, heart = Blinking(db), CountedHeart()
        member = node(blinking, "a")  # type: ignore[arg-type]  # it has what is used of it
        member._heart = heart
        for attempt in (member.register, member.enter):
            blinking.away = 1
            with pytest.raises(ApiError):
                await attempt()
            await attempt()
        assert (member.incarnation, heart.started, member.state) == (1, 1, NodeState.UP)
        assert member.lease.valid

    play(story)


def test_a_node_that_drains_keeps_nothing_and_a_stopped_one_leaves_nothing_behind(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a, b = await joined(db, "a"), await joined(db, "b")
        await hand_over_all(db, a)
        await b.withdraw()
        assert len(b._slots.leaving()) == len(b._slots.own_slots()) > 0
        await hand_over_all(db, b)
        assert b._slots.own_slots() == ()
        await b.leave()
        found = {status.name: status for status in await db.read(survey.survey)}
        assert found["b"].state is NodeState.LEFT and found["b"].hb_seq is None
        assert found["a"].slots == SLOTS and found["a"].leaving == 0

    play(story)


def test_slots_are_to_go_nowhere_when_the_last_node_drains_too(play: Play) -> None:
    """Their owners would try for ever, and suspend the jobs in them each time."""

    async def story(db: SqlDatabase) -> None:
        first, second = await joined(db, "a"), await joined(db, "b")
        await first.withdraw()
        assert {row.target for row in (await owners(db)).values() if row.owner == "a"} == {"b"}
        await second.withdraw()
        rows = (await owners(db)).values()
        assert {row.target for row in rows} == {None} and {row.owner for row in rows} <= {"a", "b"}
        await joined(db, "c")
        assert {row.target for row in (await owners(db)).values()} == {"c"}

    play(story)


def test_the_slots_of_an_evicted_node_go_to_the_others_at_once_under_new_epochs(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a, b = await joined(db, "a"), await joined(db, "b")
        await hand_over_all(db, a)
        before = await owners(db)
        assert await a.evict(await lease_of(db, "b"))
        after = await owners(db)
        assert {row.owner for row in after.values()} == {"a"}
        taken = {slot for slot in before if before[slot].owner == "b"}
        assert all(after[slot].epoch == before[slot].epoch + (slot in taken) for slot in after)
        slot = min(taken)
        jobs = JobRepository()
        assert await db.write(lambda tx: jobs.epoch(tx, slot, "b", b.incarnation)) is None
        assert await db.write(lambda tx: jobs.epoch(tx, slot, "a", a.incarnation)) == after[slot].epoch

    play(story)


def test_a_node_that_moved_since_it_was_looked_at_is_not_evicted(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a, b = await joined(db, "a"), await joined(db, "b")
        seen = await lease_of(db, "b")
        beat = await db.write(lambda tx: repository.renew(tx.execute, tx.dialect, "b", b.incarnation, (3, 4)))
        assert beat.renewed
        assert not await a.evict(seen)
        status = {s.name: s for s in await db.read(survey.survey)}["b"]
        assert (status.state, status.in_flight, status.queued) == (NodeState.UP, 3, 4)

    play(story)


def test_two_observers_evict_a_node_once(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a, c = await joined(db, "a"), await joined(db, "c")
        await joined(db, "b")
        dead = await lease_of(db, "b")
        assert sorted(await asyncio.gather(a.evict(dead), c.evict(dead))) == [False, True]

    play(story)


def test_an_evicted_node_can_neither_beat_nor_enter_nor_write(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a = await joined(db, "a")
        b = node(db, "b")
        await b.register()
        await a.evict(await lease_of(db, "b"))
        beat = await db.write(lambda tx: repository.renew(tx.execute, tx.dialect, "b", b.incarnation, (0, 0)))
        assert not beat.renewed
        with pytest.raises(Fenced):
            await b.enter()
        assert b.lease.lost.is_set() and not b.lease.valid

    play(story)


def test_a_restart_under_the_same_name_keeps_the_slots_under_new_epochs(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a = await joined(db, "a")
        await joined(db, "b")
        await hand_over_all(db, a)
        before = await owners(db)
        again = node(db, "b")
        assert await again.register() == 2
        after = await owners(db)
        for slot, row in after.items():
            mine = before[slot].owner == "b"
            assert row.owner == before[slot].owner
            assert (row.epoch, row.incarnation) == (before[slot].epoch + mine, 2 if mine else 1)

    play(story)


def test_an_operator_drains_and_evicts_by_name(play: Play) -> None:
    async def story(db: SqlDatabase) -> None:
        a, _ = await joined(db, "a"), await joined(db, "b")
        await hand_over_all(db, a)
        planned = await db.read(lambda tx: survey.preview(tx, remove=["b"]))
        assert set(planned.moves) == {("b", "a")} and planned.owned == {"a": SLOTS}
        assert await db.write(lambda tx: survey.drain(tx, "b"))
        assert not await db.write(lambda tx: survey.drain(tx, "b"))
        assert await db.write(lambda tx: survey.evict(tx, "b"))
        assert {row.owner for row in (await owners(db)).values()} == {"a"}

    play(story)
