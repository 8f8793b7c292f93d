"""The virtual loop: time, nodes that stand still or die, and an order that is always the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from random import Random
from typing import Any

import pytest

from mgmtnode.testing.simulation.loop import Deadlock, Livelock, VirtualLoop, current_node


def play(story: Coroutine[Any, Any, Any], seed: int = 0) -> Any:
    loop = VirtualLoop(Random(seed))
    try:
        return loop.run_until_complete(story)
    finally:
        loop.end()


def this_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def test_waiting_takes_virtual_time_only() -> None:
    async def story() -> float:
        await asyncio.sleep(1_000_000)
        return asyncio.get_running_loop().time()

    assert play(story()) == 1_000_000


def test_a_node_does_its_work_in_the_order_in_which_it_came() -> None:
    async def story() -> list[int]:
        done: list[int] = []
        for number in range(100):
            this_loop().call_soon(done.append, number, context=this_loop().context_of("a"))
        await asyncio.sleep(1)
        return done

    assert play(story()) == list(range(100))


def test_the_seed_decides_which_of_several_nodes_goes_first() -> None:
    async def story() -> str:
        done: list[str] = []
        for name in "abc" * 5:
            this_loop().call_soon(done.append, name, context=this_loop().context_of(name))
        await asyncio.sleep(1)
        return "".join(done)

    orders = [play(story(), seed) for seed in range(20)]
    assert len(set(orders)) > 10
    assert orders == [play(story(), seed) for seed in range(20)]


def test_what_a_node_starts_belongs_to_it_also_in_an_empty_context() -> None:
    async def story() -> set[str]:
        seen: set[str] = set()

        async def note() -> None:
            seen.add(current_node.get())

        async def node() -> None:
            await asyncio.create_task(note())
            await asyncio.create_task(note(), context=contextvars_empty())
            asyncio.get_running_loop().call_later(1, lambda: seen.add(current_node.get()))

        await this_loop().spawn(node(), "a")
        await asyncio.sleep(2)
        return seen

    assert play(story()) == {"a"}


def contextvars_empty() -> Any:
    from contextvars import Context

    return Context()


def test_a_node_that_stands_still_does_everything_later_in_its_order() -> None:
    async def story() -> list[tuple[float, int]]:
        loop, done = this_loop(), list[tuple[float, int]]()

        async def node() -> None:
            for number in range(4):
                await asyncio.sleep(1)
                done.append((loop.time(), number))

        task = loop.spawn(node(), "a")
        loop.call_later(1.5, loop.pause, "a")
        loop.call_later(1.7, loop.pause, "a")
        loop.call_later(5.0, loop.resume, "a")
        loop.call_later(8.0, loop.resume, "a")
        await task
        return done

    assert play(story()) == [(1.0, 0), (8.0, 1), (9.0, 2), (10.0, 3)]


def test_a_killed_node_does_nothing_more_not_even_tidy_up() -> None:
    async def story() -> list[str]:
        loop, done = this_loop(), list[str]()

        async def node() -> None:
            done.append("began")
            try:
                await asyncio.sleep(10)
            finally:
                done.append("tidied up")

        loop.spawn(node(), "a")
        await asyncio.sleep(1)
        loop.kill("a")
        loop.call_soon(done.append, "late", context=loop.context_of("a"))
        await asyncio.sleep(100)
        return list(done)

    assert play(story()) == ["began"]


def test_it_says_when_nothing_is_left_to_do_and_when_it_never_ends() -> None:
    async def waits_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Deadlock):
        play(waits_for_ever())
    with pytest.raises(Livelock):
        play(spins())


def test_sets_of_tasks_and_futures_have_the_same_order_in_every_run() -> None:
    async def story() -> list[int]:
        done: list[int] = []

        async def work(number: int) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10)
            done.append(number)

        tasks = {asyncio.ensure_future(work(number)) for number in range(50)}
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return done

    assert play(story()) == play(story())


def test_what_would_need_a_thread_is_done_at_once() -> None:
    async def story() -> tuple[int, float]:
        return await asyncio.to_thread(lambda: 42), asyncio.get_running_loop().time()

    assert play(story()) == (42, 0.0)
    with pytest.raises(ZeroDivisionError):
        play(asyncio.to_thread(lambda: 1 // 0))
