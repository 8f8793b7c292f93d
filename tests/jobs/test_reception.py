"""Requests that come together: one transaction, and to each its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from mgmtnode.db.tables import job
from mgmtnode.errors import DATABASE_DOWN, ApiError
from mgmtnode.jobs.acceptance import JOB_QUEUE, JobSpec
from mgmtnode.jobs.job import Job
from mgmtnode.jobs.pace import MOST, WHILE_BUSY, Pace
from mgmtnode.jobs.reception import LANES, TOGETHER
from tests.virtual_time import run
from tests.workshop.contract import MakeGadget, PolishGadget, TouchGadget
from tests.workshop.world import ME, Core, World

NOBODY = "0190ffff-0000-7000-8000-000000000001"
Answers = list[Job | BaseException]


def take_time(core: Core) -> None:
    """Each transaction lasts for a moment, and nothing is run."""
    core.jobs.runner = None
    write = core.db.write

    async def slow(work: Callable[..., Any]) -> Any:
        await asyncio.sleep(0.01)
        return await write(work)

    core.db.write = slow  # type: ignore[method-assign]


async def at_once(accepting: Sequence[Awaitable[Job]]) -> Answers:
    return await asyncio.gather(*accepting, return_exceptions=True)


def busy(core: Core) -> list[Awaitable[Job]]:
    """Fills the lanes, so that all others go together."""
    return [core.jobs.accept(MakeGadget(name=f"before {number}"), ME) for number in range(LANES)]


def codes(answers: Answers) -> list[str]:
    return [
        answer.code if isinstance(answer, ApiError) else "" if isinstance(answer, Job) else repr(answer)
        for answer in answers
    ]


def story_of(world: World, story: Callable[[Core], Awaitable[None]]) -> None:
    async def told() -> None:
        async with world.life() as core:
            uuid = (await core.run(MakeGadget(name="there"))).resource_uuid
            core.there = uuid  # type: ignore[attr-defined]
            take_time(core)
            core.db.commits = 0
            await story(core)

    run(told)


def test_what_comes_while_all_lanes_are_in_use_shares_a_commit(world: World) -> None:
    async def story(core: Core) -> None:
        makes = [core.jobs.accept(MakeGadget(name=f"g{n}"), ME) for n in range(LANES + TOGETHER + 5)]
        answers = await at_once(makes)
        assert codes(answers) == [""] * len(makes)
        assert len({answer.uuid for answer in answers if isinstance(answer, Job)}) == len(makes)
        assert core.db.commits == LANES + 2
        assert not core.jobs.reception.busy

    story_of(world, story)


def test_a_refusal_is_one_requests_own(world: World) -> None:
    async def story(core: Core) -> None:
        wanted = [TouchGadget(uuid=core.there), TouchGadget(uuid=NOBODY), MakeGadget(name="g")]  # type: ignore[attr-defined]
        answers = await at_once([*busy(core), *(core.jobs.accept(msg, ME) for msg in wanted)])
        assert codes(answers[LANES:]) == ["", "core.not-found", ""]
        assert core.db.commits == LANES + 1

    story_of(world, story)


def test_one_key_is_one_job_in_one_transaction_too(world: World) -> None:
    async def story(core: Core) -> None:
        names = ("one", "one", "other")
        makes = [core.jobs.accept(MakeGadget(name=name), ME, key="k") for name in names]
        first, again, other = (await at_once([*busy(core), *makes]))[LANES:]
        assert isinstance(first, Job) and isinstance(again, Job) and isinstance(other, ApiError)
        assert (again.uuid, again.replayed, first.replayed) == (first.uuid, True, False)
        assert other.code == "core.idempotency-key-reused"
        later, bad = await at_once(
            [core.jobs.accept(MakeGadget(name=name), ME, key="k") for name in names[1:]]
        )
        assert isinstance(later, Job) and later.uuid == first.uuid
        assert codes([bad]) == ["core.idempotency-key-reused"]

    story_of(world, story)


def test_requests_for_one_resource_are_accepted_as_they_came_and_within_its_limit(world: World) -> None:
    async def story(core: Core) -> None:
        core.parts.context.config._values[JOB_QUEUE.name] = 3
        polishes = [core.jobs.accept(PolishGadget(uuid=core.there), ME) for _ in range(5)]  # type: ignore[attr-defined]
        answers = (await at_once([*busy(core), *polishes]))[LANES:]
        assert codes(answers) == ["", "", "", "core.queue-full", "core.queue-full"]
        jobs = [answer.uuid for answer in answers if isinstance(answer, Job)]
        order = select(job.c.uuid).where(job.c.api == "gadget.polish").order_by(job.c.seq)
        assert [str(row[0]) for row in world.ask(order)] == jobs

    story_of(world, story)


def test_a_bug_of_one_validator_is_not_the_others_fault(world: World) -> None:
    async def story(core: Core) -> None:
        def broken(tx: Any, msg: Any, caller: Any) -> None:
            raise RuntimeError("the validator has a bug")

        spec: JobSpec = core.jobs._by_type[TouchGadget]
        spec.validators.append(broken)
        wanted = [MakeGadget(name="g"), TouchGadget(uuid=core.there), MakeGadget(name="h")]  # type: ignore[attr-defined]
        answers = (await at_once([*busy(core), *(core.jobs.accept(msg, ME) for msg in wanted)]))[LANES:]
        assert codes(answers) == ["", "RuntimeError('the validator has a bug')", ""]

    story_of(world, story)


def test_while_the_database_is_away_all_hear_of_it(world: World) -> None:
    async def story(core: Core) -> None:
        core.db.down = True
        answers = await at_once([core.jobs.accept(MakeGadget(name="g"), ME) for _ in range(LANES + 3)])
        assert codes(answers) == [DATABASE_DOWN.id] * (LANES + 3)
        core.db.down = False
        assert codes(await at_once([core.jobs.accept(MakeGadget(name="g"), ME)])) == [""]

    story_of(world, story)


def test_who_gives_up_waiting_is_not_accepted_and_who_is_being_accepted_goes_when_it_is(world: World) -> None:
    async def story(core: Core) -> None:
        first = [asyncio.ensure_future(accepting) for accepting in busy(core)]
        waits = asyncio.ensure_future(core.jobs.accept(MakeGadget(name="waits"), ME))
        goes = asyncio.ensure_future(core.jobs.accept(MakeGadget(name="goes"), ME))
        await asyncio.sleep(0.005)
        waits.cancel()
        await asyncio.sleep(0.01)
        assert waits.cancelled() and all(task.done() for task in first)
        goes.cancel()
        await asyncio.wait([goes])
        assert goes.cancelled()
        found = {str(row[0]) for row in world.ask(select(job.c.payload))}
        assert any("goes" in payload for payload in found)
        assert not any("waits" in payload for payload in found)

    story_of(world, story)


@pytest.mark.parametrize(("waiting", "most"), [(True, WHILE_BUSY), (False, MOST)])
def test_few_jobs_begin_at_once_while_requests_wait(waiting: bool, most: int) -> None:
    inside, seen = 0, 0

    async def begin(pace: Pace) -> None:
        nonlocal inside, seen
        async with pace:
            inside += 1
            seen = max(seen, inside)
            await asyncio.sleep(1)
            inside -= 1

    async def story() -> None:
        pace = Pace(lambda: waiting)
        tasks = [asyncio.ensure_future(begin(pace)) for _ in range(3 * MOST)]
        await asyncio.sleep(0.5)
        for task in tasks[most : 2 * most]:
            task.cancel()
        await asyncio.wait(tasks)
        assert sum(task.cancelled() for task in tasks) == most
        assert (inside, seen) == (0, most)

    run(story)
