from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from mgmtnode.bus.context import EMPTY, CallContext, current
from mgmtnode.errors import DATABASE_DOWN
from mgmtnode.tasks.periodic import Periodic
from tests.virtual_time import SeededRng, run


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_runner_runs_every_interval_and_stops() -> None:
    async def story() -> None:
        periodic, times = Periodic(SeededRng()), []

        async def look() -> None:
            times.append(now())

        periodic.every("look", 10.0, look, jitter=0.0)
        await asyncio.sleep(35)
        await periodic.stop()
        await asyncio.sleep(100)
        assert times == pytest.approx([10, 20, 30]) and periodic.snapshot() == []

    run(story)


def test_jitter_keeps_the_wait_within_its_share() -> None:
    async def story() -> None:
        periodic, times = Periodic(SeededRng(1)), [0.0]

        async def look() -> None:
            times.append(now())

        periodic.every("look", 10.0, look, jitter=0.2)
        await asyncio.sleep(1000)
        await periodic.stop()
        waits = [b - a for a, b in pairwise(times)]
        assert all(8.0 <= wait <= 12.0 for wait in waits) and len({round(w, 6) for w in waits}) > 10

    run(story)


def test_an_exception_is_logged_and_counted_and_the_runner_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        periodic, runs = Periodic(SeededRng()), []

        async def fail() -> None:
            runs.append(now())
            raise OSError("no route")

        periodic.every("ping", 1.0, fail, jitter=0.0)
        await asyncio.sleep(3.5)
        (state,) = periodic.snapshot()
        assert (state.runs, state.failures, state.error) == (3, 3, "OSError: no route")
        await periodic.stop()

    with caplog.at_level(logging.ERROR):
        run(story)
    assert "periodic ping failed" in caplog.text


def test_what_may_pass_by_itself_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        periodic = Periodic(SeededRng())

        async def fail() -> None:
            raise DATABASE_DOWN.error("the database is away")

        periodic.every("sweep", 1.0, fail, jitter=0.0)
        await asyncio.sleep(1.5)
        assert [state.failures for state in periodic.snapshot()] == [1]
        await periodic.stop()

    with caplog.at_level(logging.WARNING):
        run(story)
    [record] = caplog.records
    assert (
        record.levelname == "WARNING" and record.exc_info is None and "the database is away" in record.message
    )


def test_a_slow_round_is_never_overlapped() -> None:
    async def story() -> None:
        periodic, inside, most = Periodic(SeededRng()), 0, 0

        async def slow() -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(10)
            inside -= 1

        runner = periodic.every("slow", 1.0, slow, at_once=True)
        for _ in range(50):
            await asyncio.sleep(1)
            runner.poke()
        await periodic.stop()
        assert most == 1

    run(story)


def test_a_poke_begins_the_next_round_at_once_also_while_one_runs() -> None:
    async def story() -> None:
        periodic, times = Periodic(SeededRng()), []

        async def look() -> None:
            times.append(now())
            await asyncio.sleep(1)

        runner = periodic.every("look", 100.0, look, jitter=0.0)
        await asyncio.sleep(5)
        runner.poke()
        await asyncio.sleep(0.5)
        runner.poke()
        await asyncio.sleep(10)
        await periodic.stop()
        assert times == pytest.approx([5, 6])

    run(story)


def test_the_interval_is_asked_again_each_round_and_may_fail() -> None:
    async def story() -> None:
        periodic, times, intervals = Periodic(SeededRng()), [], iter([5.0, 2.0])

        def interval() -> float:
            return next(intervals)  # StopIteration at the third

        async def look() -> None:
            times.append(now())

        runner = periodic.every("look", interval, look, jitter=0.0)
        await asyncio.sleep(8.5)
        await periodic.stop()
        assert times == pytest.approx([5, 7, 8]) and runner.failures >= 1

    run(story)


def test_a_name_is_used_once() -> None:
    async def story() -> None:
        periodic = Periodic(SeededRng())
        periodic.every("a", 1.0, asyncio.sleep, jitter=0.0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'a'"):
            periodic.every("a", 1.0, asyncio.sleep)  # type: ignore[arg-type]
        await periodic.stop()

    run(story)


def test_a_runner_does_not_inherit_the_call_it_was_started_in() -> None:
    async def story() -> None:
        seen = []

        async def look() -> None:
            seen.append(current.get())

        current.set(CallContext(deadline=1.0, chain=("vm:1",)))
        periodic = Periodic(SeededRng())
        periodic.every("look", 1.0, look)
        await asyncio.sleep(2)
        await periodic.stop()
        assert seen[0] == EMPTY

    run(story)
