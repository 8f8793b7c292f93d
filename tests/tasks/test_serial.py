from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmtnode.errors import OVERLOADED, TIMEOUT, ApiError
from mgmtnode.tasks.serial import SerialQueues
from tests.virtual_time import LoopClock, run


async def hold_for(
    queues: SerialQueues, log: list[str], name: str, seconds: float, **options: object
) -> None:
    async with queues.hold("vm:1", **options):  # type: ignore[arg-type]
        log.append(f"{name}+")
        await asyncio.sleep(seconds)
        log.append(f"{name}-")


def test_holders_of_one_key_come_in_order_and_never_overlap() -> None:
    async def story() -> list[str]:
        queues, log = SerialQueues(LoopClock()), []
        await asyncio.gather(*(hold_for(queues, log, n, 1.0) for n in "abc"))
        assert len(queues) == 0
        return log

    assert run(story) == ["a+", "a-", "b+", "b-", "c+", "c-"]


def test_a_level_of_two_lets_two_in() -> None:
    async def story() -> None:
        queues, log = SerialQueues(LoopClock()), []
        tasks = [asyncio.create_task(hold_for(queues, log, n, 1.0, level=2)) for n in "abc"]
        await asyncio.sleep(0)
        (state,) = queues.snapshot()
        assert (state.level, state.running, state.waiting) == (2, 2, 1)
        await asyncio.gather(*tasks)
        assert log[:2] == ["a+", "b+"]

    run(story)


def test_a_level_that_was_raised_lets_those_in_who_wait() -> None:
    async def story() -> None:
        queues, log, level = SerialQueues(LoopClock()), [], [1]
        ask = lambda: level[0]  # noqa: E731
        tasks = [asyncio.create_task(hold_for(queues, log, n, 9.0, level=ask)) for n in "ab"]
        await asyncio.sleep(1)
        level[0] = 3
        tasks.append(asyncio.create_task(hold_for(queues, log, "c", 9.0, level=ask)))
        await asyncio.sleep(1)
        assert log == ["a+", "b+", "c+"] or log == ["a+", "c+", "b+"]
        await asyncio.gather(*tasks)

    run(story)


def test_different_keys_do_not_wait_for_each_other() -> None:
    async def story() -> None:
        queues = SerialQueues(LoopClock())
        async with queues.hold("vm:1"), queues.hold("vm:2"):
            assert sorted(s.key for s in queues.snapshot()) == ["vm:1", "vm:2"]

    run(story)


def test_who_waits_past_its_deadline_gets_a_timeout_and_the_next_one_goes_on() -> None:
    async def story() -> None:
        queues, log = SerialQueues(LoopClock()), []
        first = asyncio.create_task(hold_for(queues, log, "a", 5.0))
        late = asyncio.create_task(hold_for(queues, log, "b", 5.0, deadline=2.0))
        third = asyncio.create_task(hold_for(queues, log, "c", 0.0))
        with pytest.raises(ApiError) as caught:
            await late
        assert caught.value.code == TIMEOUT.id and asyncio.get_running_loop().time() == pytest.approx(2.0)
        await asyncio.gather(first, third)
        assert log == ["a+", "a-", "c+", "c-"] and len(queues) == 0

    run(story)


def test_more_than_the_bound_are_refused() -> None:
    async def story() -> None:
        queues, log = SerialQueues(LoopClock(), max_waiting=2), []
        tasks = [asyncio.create_task(hold_for(queues, log, n, 1.0)) for n in "abcd"]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        (refused,) = [r for r in results if isinstance(r, ApiError)]
        assert refused.code == OVERLOADED.id and refused.problem.retry_after == 1.0
        assert log[-1] == "c-"

    run(story)


def test_the_oldest_entry_tells_the_age_of_a_queue() -> None:
    async def story() -> None:
        queues, log = SerialQueues(LoopClock()), []
        task = asyncio.create_task(hold_for(queues, log, "a", 9.0))
        await asyncio.sleep(3)
        assert queues.snapshot()[0].oldest == pytest.approx(3.0)
        await task

    run(story)


def test_a_turn_given_to_a_waiter_that_is_cancelled_at_that_moment_goes_to_the_next() -> None:
    async def story() -> None:
        queues, log = SerialQueues(LoopClock()), []
        holder = queues.hold("vm:1")
        await holder.__aenter__()
        second = asyncio.create_task(hold_for(queues, log, "b", 0.0))
        third = asyncio.create_task(hold_for(queues, log, "c", 0.0))
        await asyncio.sleep(0)
        await holder.__aexit__(None, None, None)  # gives the turn to b, whose task has not run yet
        second.cancel()
        await asyncio.wait([second, third])
        assert second.cancelled() and log == ["c+", "c-"] and len(queues) == 0

    run(story)


def test_a_holder_that_fails_lets_the_next_one_in() -> None:
    async def story() -> None:
        queues = SerialQueues(LoopClock())
        with pytest.raises(ValueError):
            async with queues.hold("vm:1"):
                raise ValueError
        async with queues.hold("vm:1"):
            pass
        assert len(queues) == 0

    run(story)


Entry = st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(0, 4) | st.none(), st.floats(0, 4) | st.none())


@settings(deadline=None, max_examples=150)
@given(st.lists(Entry, max_size=12), st.integers(1, 3))
def test_whatever_is_cancelled_or_times_out_the_level_holds_and_nothing_is_left(
    entries: list[tuple[float, float, float | None, float | None]], level: int
) -> None:
    async def story() -> None:
        queues, inside = SerialQueues(LoopClock()), 0

        async def work(at: float, lasts: float, deadline: float | None) -> None:
            nonlocal inside
            await asyncio.sleep(at)
            async with queues.hold("k", level=level, deadline=deadline):
                inside += 1
                assert inside <= level
                try:
                    await asyncio.sleep(lasts)
                finally:
                    inside -= 1

        tasks = []
        for at, lasts, deadline, cancelled in entries:
            task = asyncio.create_task(work(at, lasts, deadline))
            tasks.append(task)
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError | ApiError), result
        assert inside == 0 and len(queues) == 0

    run(story)
