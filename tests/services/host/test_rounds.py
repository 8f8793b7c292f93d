"""Rounds, on a clock that jumps: each key at its time, so many at once, one task while nothing is due."""

from __future__ import annotations

import asyncio
from collections import Counter

from mgmtnode.errors import DATABASE_DOWN
from services.host.rounds import AFTER_FAULT, AFTER_OUTAGE, Rounds
from tests.virtual_time import run


class Walk:
    """Visits that take ``takes`` seconds and are wanted again after 60."""

    def __init__(self, takes: float = 0.0, at_once: int = 1000) -> None:
        self.takes, self.visits = takes, list[tuple[float, str]]()
        self.now = self.most = 0
        self.rounds = Rounds(self.visit, lambda: at_once)
        self.answer: dict[str, float | None] = {}
        self.broken: set[str] = set()
        self.away: set[str] = set()

    async def visit(self, key: str) -> float | None:
        self.visits.append((round(asyncio.get_running_loop().time(), 6), key))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.takes:
                await asyncio.sleep(self.takes)
            if key in self.broken:
                raise RuntimeError("a bug")
            if key in self.away:
                raise DATABASE_DOWN.error("away")
            return self.answer.get(key, 60.0)
        finally:
            self.now -= 1

    def times(self, key: str) -> list[float]:
        return [at for at, who in self.visits if who == key]


def test_each_key_is_visited_after_its_delay_and_then_when_it_asks_to_be() -> None:
    async def story() -> Walk:
        walk = Walk()
        walk.answer["b"] = 7.0
        walk.rounds.start()
        walk.rounds.add("a", 30.0)
        walk.rounds.add("b", 1.0)
        await asyncio.sleep(100)
        await walk.rounds.stop()
        return walk

    walk = run(story)
    assert walk.times("a") == [30.0, 90.0]
    assert walk.times("b") == [1.0 + 7.0 * n for n in range(15)]


def test_no_more_than_so_many_are_visited_at_once_and_all_in_the_end() -> None:
    async def story() -> Walk:
        walk = Walk(takes=1.0, at_once=10)
        walk.rounds.start()
        for n in range(95):
            walk.rounds.add(str(n), 0.0)
        await asyncio.sleep(11)
        await walk.rounds.stop()
        return walk

    walk = run(story)
    assert walk.most == 10
    assert Counter(key for _, key in walk.visits) == {str(n): 1 for n in range(95)}


def test_a_poke_brings_the_visit_forward_or_makes_a_second_one_right_after() -> None:
    async def story() -> Walk:
        walk = Walk(takes=2.0)
        walk.rounds.start()
        walk.rounds.add("a", 50.0)
        await asyncio.sleep(5)
        walk.rounds.poke("a")
        await asyncio.sleep(1)
        walk.rounds.poke("a")
        walk.rounds.poke("a")
        walk.rounds.poke("stranger")
        await asyncio.sleep(50)
        await walk.rounds.stop()
        return walk

    assert run(story).times("a") == [5.0, 7.0]


def test_visits_are_brought_forward_but_never_put_off() -> None:
    async def story() -> Walk:
        walk = Walk()
        walk.rounds.start()
        walk.rounds.add("soon", 2.0)
        walk.rounds.add("late", 500.0)
        walk.rounds.within(lambda: 10.0)
        await asyncio.sleep(11)
        await walk.rounds.stop()
        return walk

    assert run(story).visits == [(2.0, "soon"), (10.0, "late")]


def test_a_key_that_is_removed_or_wants_no_more_is_not_visited_again() -> None:
    async def story() -> Walk:
        walk = Walk(takes=1.0)
        walk.answer["a"] = None
        walk.rounds.start()
        for key in "abc":
            walk.rounds.add(key, 1.0)
        await asyncio.sleep(1.5)
        walk.rounds.remove("b")
        await asyncio.sleep(1.0)
        assert set(walk.rounds) == {"c"}
        walk.rounds.remove("c")
        await asyncio.sleep(200)
        assert len(walk.rounds) == 0
        await walk.rounds.stop()
        return walk

    assert [key for _, key in run(story).visits] == ["a", "b", "c"]


def test_a_visit_that_raises_does_not_end_the_rounds() -> None:
    async def story() -> Walk:
        walk = Walk()
        walk.broken.add("a")
        walk.rounds.start()
        walk.rounds.add("a", 0.0)
        await asyncio.sleep(AFTER_FAULT + 1)
        await walk.rounds.stop()
        return walk

    assert run(story).times("a") == [0.0, AFTER_FAULT]


def test_a_visit_that_was_not_possible_is_tried_again_soon() -> None:
    async def story() -> Walk:
        walk = Walk()
        walk.away.add("a")
        walk.rounds.start()
        walk.rounds.add("a", 0.0)
        await asyncio.sleep(AFTER_OUTAGE + 1)
        await walk.rounds.stop()
        return walk

    assert run(story).times("a") == [0.0, AFTER_OUTAGE]


def test_a_key_that_is_added_again_during_its_visit_is_visited_as_a_new_one() -> None:
    async def story() -> Walk:
        walk = Walk(takes=10.0)
        walk.rounds.start()
        walk.rounds.add("a", 0.0)
        await asyncio.sleep(1)
        walk.rounds.remove("a")
        walk.rounds.add("a", 1.0)
        await asyncio.sleep(15)
        assert set(walk.rounds) == {"a"}
        await walk.rounds.stop()
        return walk

    assert run(story).times("a") == [0.0, 2.0]


def test_ten_thousand_keys_that_wait_are_one_task() -> None:
    async def story() -> int:
        walk = Walk()
        walk.rounds.start()
        for n in range(10_000):
            walk.rounds.add(str(n), 1.0 + n / 1000)
        await asyncio.sleep(0.5)
        tasks = len(asyncio.all_tasks()) - 1
        await asyncio.sleep(11)
        assert len(walk.visits) == 10_000
        await walk.rounds.stop()
        return tasks

    assert run(story) == 1
