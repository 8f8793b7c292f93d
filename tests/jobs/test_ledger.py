"""The ledger against a model: pools are never over-booked, and what is used is what is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import CORE_TABLES, allocation, pool
from mgmtnode.jobs import ledger
from mgmtnode.ports import SystemClock

T = TypeVar("T")


def uuid(n: int) -> str:
    return f"0190dddd-0000-7000-8000-{n:012x}"


POOLS = [(uuid(1), "memory"), (uuid(1), "cpu"), (uuid(2), "memory")]
HOLDERS = [uuid(n) for n in range(11, 15)]
RANGE, ADDRESSES = uuid(3), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


@pytest.fixture
def db(database_url: str, tmp_path: Path) -> Iterator[SqlDatabase]:
    db = open_database(database_url or f"sqlite:///{tmp_path / 'test.db'}", SystemClock())
    db.run(lambda tx: metadata.create_all(tx.connection, tables=CORE_TABLES))
    yield db
    db.engine.dispose()


class Books(RuleBasedStateMachine):
    """``held``: allocation → (pool, holder, amount, state); ``taken``: address → (holder, state)."""

    db: SqlDatabase

    def __init__(self) -> None:
        super().__init__()
        self.do(lambda tx: (tx.execute(delete(allocation)), tx.execute(delete(pool))))
        self.target: dict[tuple[str, str], int] = {}
        self.held: dict[str, tuple[tuple[str, str], str, int, str]] = {}
        self.taken: dict[str, tuple[str, str]] = {}
        self.drawn = 100

    def do(self, work: Callable[[Tx], T]) -> T:
        return self.db.run(work)

    def used(self, where: tuple[str, str]) -> int:
        return sum(amount for place, _, amount, _ in self.held.values() if place == where)

    def draw(self) -> str:
        self.drawn += 1
        return uuid(self.drawn)

    def give_back(self, mine: Callable[[str, str, str], bool]) -> None:
        """What (holder, pool, name) says is given back: at once, or when the debt is settled."""
        self.held = {
            u: (*h[:3], "RETURNED" if mine(h[1], h[0][0], u) and h[3] == "QUARANTINED" else h[3])
            for u, h in self.held.items()
            if h[3] != "LIVE" or not mine(h[1], h[0][0], u)
        }
        self.taken = {
            a: (t[0], "RETURNED" if mine(t[0], RANGE, a) and t[1] == "QUARANTINED" else t[1])
            for a, t in self.taken.items()
            if t[1] != "LIVE" or not mine(t[0], RANGE, a)
        }

    def drop(self, gone: Callable[[str, str, str], bool]) -> None:
        """Forgets what (holder, pool, state) says is gone."""
        self.held = {u: h for u, h in self.held.items() if not gone(h[1], h[0][0], h[3])}
        self.taken = {a: t for a, t in self.taken.items() if not gone(t[0], RANGE, t[1])}

    @rule(where=st.sampled_from(POOLS), limit=st.integers(0, 20))
    def set_pool(self, where: tuple[str, str], limit: int) -> None:
        self.do(lambda tx: ledger.set_pool(tx, *where, limit))
        self.target[where] = limit

    @rule(
        where=st.sampled_from(POOLS),
        holder=st.sampled_from(HOLDERS),
        amount=st.integers(0, 12),
        force=st.booleans(),
    )
    def reserve(self, where: tuple[str, str], holder: str, amount: int, force: bool) -> None:
        name = self.draw()
        fits = self.do(lambda tx: ledger.reserve(tx, *where, amount, holder=holder, uuid=name, force=force))
        known = where in self.target
        assert fits == (known and (force or self.used(where) + amount <= self.target[where]))
        if fits:
            self.held[name] = (where, holder, amount, "LIVE")

    @rule(
        holder=st.sampled_from(HOLDERS),
        memory=st.integers(0, 12),
        cpu=st.integers(0, 12),
        force=st.booleans(),
    )
    def reserve_both_or_nothing(self, holder: str, memory: int, cpu: int, force: bool) -> None:
        amounts, names = {"memory": memory, "cpu": cpu}, [self.draw(), self.draw()]
        drawn = iter(names)

        def both(tx: Tx) -> bool:
            return ledger.reserve_all(
                tx, uuid(1), amounts, holder=holder, draw=lambda: next(drawn), force=force
            )

        wheres = [(uuid(1), kind) for kind in amounts]
        room = all(force or self.used(w) + amounts[w[1]] <= self.target.get(w, -1) for w in wheres)
        fits = self.do(both)
        assert fits == (room and all(w in self.target for w in wheres))
        if fits:
            for name, where in zip(names, wheres, strict=True):
                self.held[name] = (where, holder, amounts[where[1]], "LIVE")

    @rule(address=st.sampled_from(ADDRESSES), holder=st.sampled_from(HOLDERS))
    def take(self, address: str, holder: str) -> None:
        name = self.draw()
        got = self.do(lambda tx: ledger.take_unit(tx, RANGE, "ip", address, holder=holder, uuid=name))
        assert got == (address not in self.taken)
        if got:
            self.taken[address] = (holder, "LIVE")

    @rule(address=st.sampled_from(ADDRESSES), holder=st.sampled_from(HOLDERS))
    def give_unit(self, address: str, holder: str) -> None:
        self.do(lambda tx: ledger.free_unit(tx, RANGE, address, holder=holder))
        self.give_back(lambda who, place, name: who == holder and name == address)

    @rule(holder=st.sampled_from(HOLDERS))
    def free(self, holder: str) -> None:
        self.do(lambda tx: ledger.free(tx, holder))
        self.give_back(lambda who, place, name: who == holder)

    @rule(holder=st.sampled_from(HOLDERS), where=st.sampled_from([uuid(1), uuid(2), RANGE]))
    def free_of_one_pool(self, holder: str, where: str) -> None:
        self.do(lambda tx: ledger.free(tx, holder, pool_uuid=where))
        self.give_back(lambda who, place, name: who == holder and place == where)

    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        names = data.draw(st.lists(st.sampled_from(sorted(self.held)), unique=True)) if self.held else []
        self.do(lambda tx: ledger.cancel(tx, names))
        self.give_back(lambda who, place, name: name in names)

    @rule(holder=st.sampled_from(HOLDERS))
    def quarantine(self, holder: str) -> None:
        self.do(lambda tx: ledger.quarantine(tx, holder))
        self.become(holder, "LIVE", "QUARANTINED")

    @rule(holder=st.sampled_from(HOLDERS), where=st.sampled_from([None, uuid(1), RANGE]))
    def settle(self, holder: str, where: str | None) -> None:
        self.do(lambda tx: ledger.settle(tx, holder, pool_uuid=where))
        self.drop(lambda who, place, state: who == holder and state != "LIVE" and where in (None, place))

    @rule(holder=st.sampled_from(HOLDERS))
    def restore(self, holder: str) -> None:
        self.do(lambda tx: ledger.restore(tx, holder))
        anew = {h[0] for h in self.held.values() if h[1] == holder and h[3] == "LIVE"}
        self.held = {
            u: h
            for u, h in self.held.items()
            if h[1] != holder or h[3] == "LIVE" or (h[3] == "QUARANTINED" and h[0] not in anew)
        }
        self.taken = {a: t for a, t in self.taken.items() if t != (holder, "RETURNED")}
        self.become(holder, "QUARANTINED", "LIVE")

    def become(self, holder: str, before: str, after: str) -> None:
        self.held = {
            u: (*h[:3], after) if (h[1], h[3]) == (holder, before) else h for u, h in self.held.items()
        }
        self.taken = {a: (holder, after) if t == (holder, before) else t for a, t in self.taken.items()}

    @rule(where=st.sampled_from([uuid(2)]))
    def drop_pools(self, where: str) -> None:
        self.do(lambda tx: ledger.drop_pools(tx, where))
        self.held = {u: h for u, h in self.held.items() if h[0][0] != where}
        self.target = {p: t for p, t in self.target.items() if p[0] != where}

    @invariant()
    def books_agree(self) -> None:
        def look(tx: Tx) -> None:
            for where, limit in self.target.items():
                assert ledger.usage(tx, *where) == (self.used(where), limit)
                assert _allocations(tx, *where) == sum(place == where for place, *_ in self.held.values())
            shown = {"LIVE": "LIVE", "QUARANTINED": "QUARANTINED", "RETURNED": "QUARANTINED"}
            assert ledger.units(tx, RANGE) == {a: shown[state] for a, (_, state) in self.taken.items()}
            for holder in HOLDERS:
                sums: dict[tuple[str, str], int] = {}
                for place, who, amount, _ in self.held.values():
                    if who == holder:
                        sums[place] = sums.get(place, 0) + amount
                addresses = sum(who == holder for who, _ in self.taken.values())
                wanted = sums | ({(RANGE, "ip"): addresses} if addresses else {})
                assert ledger.held(tx, holder) == wanted

        self.do(look)


def _allocations(tx: Tx, pool_uuid: str, kind: str) -> int:
    where = pool.c.resource_uuid == pool_uuid, pool.c.kind == kind
    return int(tx.execute(select(pool.c.allocations).where(*where)).scalar_one())


def test_the_books_agree_with_the_model(db: SqlDatabase) -> None:
    class OnThis(Books):
        pass

    OnThis.db = db
    few = settings(
        max_examples=40 if db.dialect == "sqlite" else 15,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(OnThis, settings=few)  # type: ignore[no-untyped-call]


def test_a_shrunk_pool_drains_to_its_new_limit(db: SqlDatabase) -> None:
    def take(n: int) -> bool:
        return db.run(lambda tx: ledger.reserve(tx, uuid(1), "cpu", 1, holder=uuid(n), uuid=uuid(100 + n)))

    db.run(lambda tx: ledger.set_pool(tx, uuid(1), "cpu", 4))
    assert [take(n) for n in range(5)] == [True, True, True, True, False]
    db.run(lambda tx: ledger.set_pool(tx, uuid(1), "cpu", 2))
    for n in range(3):
        assert not take(10 + n)
        db.run(lambda tx, n=n: ledger.free(tx, uuid(n)))  # type: ignore[misc]
    assert take(20)
    assert db.run(lambda tx: ledger.usage(tx, uuid(1), "cpu")) == (2, 2)


def test_a_negative_reservation_is_a_bug(db: SqlDatabase) -> None:
    with pytest.raises(ValueError, match="a reservation of"):
        db.run(lambda tx: ledger.reserve(tx, uuid(1), "cpu", -1, holder=uuid(2), uuid=uuid(3)))


def test_the_last_unit_goes_to_one_of_many_at_once(postgres_url: str) -> None:
    import asyncio

    async def story() -> None:
        db = open_database(postgres_url, SystemClock())
        db.run(lambda tx: metadata.create_all(tx.connection, tables=CORE_TABLES))
        db.run(lambda tx: ledger.set_pool(tx, uuid(1), "cpu", 5))

        def take(n: int) -> Callable[[Tx], tuple[bool, bool]]:
            return lambda tx: (
                ledger.reserve(tx, uuid(1), "cpu", 1, holder=uuid(n), uuid=uuid(100 + n)),
                ledger.take_unit(tx, RANGE, "ip", "10.0.0.1", holder=uuid(n), uuid=uuid(200 + n)),
            )

        got = await asyncio.gather(*(db.write(take(n)) for n in range(20)))
        assert (sum(a for a, _ in got), sum(b for _, b in got)) == (5, 1)
        assert await db.read(lambda tx: ledger.usage(tx, uuid(1), "cpu")) == (5, 5)
        await db.close()

    asyncio.run(story())


def test_who_is_not_patient_does_not_wait_for_another_transaction(postgres_url: str) -> None:
    db = open_database(postgres_url, SystemClock())

    def take(tx: Tx, n: int, *, patient: bool) -> bool:
        amounts, names = {"cpu": 1, "memory": 1}, iter([uuid(100 + n), uuid(200 + n)])
        return ledger.reserve_all(
            tx, uuid(1), amounts, holder=uuid(n), draw=lambda: next(names), patient=patient
        )

    def while_one_takes(tx: Tx) -> tuple[bool, bool]:
        return take(tx, 1, patient=False), db.run(lambda other: take(other, 2, patient=False))

    try:
        db.run(lambda tx: metadata.create_all(tx.connection, tables=CORE_TABLES))
        for kind in ("cpu", "memory"):
            db.run(lambda tx, kind=kind: ledger.set_pool(tx, uuid(1), kind, 5))  # type: ignore[misc]
        assert db.run(while_one_takes) == (True, False)
        assert db.run(lambda tx: take(tx, 3, patient=False))
        assert db.run(lambda tx: ledger.usage(tx, uuid(1), "cpu")) == (2, 5)
    finally:
        db.engine.dispose()
