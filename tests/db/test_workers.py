"""The threads that run transactions: as few as do, and every outcome comes back to the loop that waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from mgmtnode.db.workers import Workers
from mgmtnode.errors import DATABASE_DOWN, ApiError


def named(gate: threading.Event) -> Callable[[], tuple[str, list[Callable[[], None]]]]:
    """Answers the thread it ran in, once the gate is open."""

    def work() -> tuple[str, list[Callable[[], None]]]:
        gate.wait(10)
        return threading.current_thread().name, []

    return work


def test_work_at_once_has_as_many_threads_as_there_may_be_and_one_after_the_other_has_one() -> None:
    async def story() -> tuple[int, int]:
        workers, gate = Workers(3, "few"), threading.Event()
        waiting = [workers.begin(named(gate)) for _ in range(10)]
        gate.set()
        at_once = len(set(await asyncio.gather(*waiting)))
        await asyncio.to_thread(workers.close)

        workers = Workers(3, "one")
        in_turn = {await workers.begin(named(gate)) for _ in range(10)}
        await asyncio.to_thread(workers.close)
        return at_once, len(in_turn)

    at_once, in_turn = asyncio.run(story())
    assert at_once == 3
    assert in_turn <= 2  # the first may not have gone idle yet when the second comes


def test_what_was_committed_is_told_before_the_result_and_though_nobody_waits() -> None:
    async def story() -> list[str]:
        workers, told = Workers(1, "told"), list[str]()
        gone = workers.begin(lambda: (None, [lambda: told.append("of one that is gone")]))
        gone.cancel()
        await workers.begin(lambda: (None, [lambda: told.append("of one that waits")]))
        told.append("result")
        await asyncio.to_thread(workers.close)
        return told

    assert asyncio.run(story()) == ["of one that is gone", "of one that waits", "result"]


def test_an_error_comes_back_and_the_thread_goes_on() -> None:
    async def story() -> None:
        workers = Workers(1, "failing")
        with pytest.raises(ZeroDivisionError):
            await workers.begin(lambda: (1 // 0, []))
        assert await workers.begin(lambda: ("well", [])) == "well"
        await asyncio.to_thread(workers.close)

    asyncio.run(story())


def test_closing_ends_what_waits_and_refuses_what_comes() -> None:
    async def story() -> None:
        workers, gate = Workers(1, "closing"), threading.Event()
        waiting = [workers.begin(named(gate)) for _ in range(5)]
        closing = asyncio.create_task(asyncio.to_thread(workers.close))
        gate.set()
        assert len(await asyncio.gather(*waiting)) == 5
        await closing
        with pytest.raises(ApiError) as refused:
            workers.begin(named(gate))
        assert refused.value.code == DATABASE_DOWN.id

    asyncio.run(story())
