"""Requests that come together: one transaction, and to each its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from mgmtnode.db.session import Tx
from mgmtnode.db.tables import job
from mgmtnode.errors import DATABASE_DOWN, ApiError
from mgmtnode.jobs import reception
from mgmtnode.jobs.acceptance import JOB_QUEUE, JobSpec
from mgmtnode.jobs.job import Job
from mgmtnode.jobs.pace import MOST, WHILE_BUSY, Pace
from mgmtnode.jobs.reception import LANES, TOGETHER
from mgmtnode.jobs.repository import JobRepository
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


async def at_once(accepting: Iterable[Awaitable[Job]]) -> Answers:
    return await asyncio.gather(*accepting, return_exceptions=True)


def busy(core: Core) -> list[Awaitable[Job]]:
    """Fills the lanes, so that all others go together."""
    return [core.jobs.accept(MakeGadget(name=f"before {number}"), ME) for number in range(LANES)]


def codes(answers: Answers) -> list[str]:
    return [
        answer.code if isinstance(answer, ApiError) else "" if isinstance(answer, Job) else repr(answer)
        for answer in answers
    ]


def story_of(world: World, story: Callable[[Core, str], Awaitable[None]]) -> None:
    """``story`` gets a gadget that is there."""

    async def told() -> None:
        async with world.life() as core:
            there = (await core.run(MakeGadget(name="there"))).resource_uuid
            take_time(core)
            core.db.commits = 0
            await story(core, there)

    run(told)


def test_what_comes_while_all_lanes_are_in_use_shares_a_commit(world: World) -> None:
    async def story(core: Core, there: str) -> None:
        makes = [core.jobs.accept(MakeGadget(name=f"g{n}"), ME) for n in range(LANES + TOGETHER + 5)]
        answers = await at_once(makes)
        assert codes(answers) == [""] * len(makes)
        assert len({answer.uuid for answer in answers if isinstance(answer, Job)}) == len(makes)
        assert core.db.commits == LANES + 2
        assert not core.jobs.reception.busy

    story_of(world, story)


def test_a_refusal_is_one_requests_own(world: World) -> None:
    async def story(core: Core, there: str) -> None:
        wanted = [TouchGadget(uuid=there), TouchGadget(uuid=NOBODY), MakeGadget(name="g")]
        answers = await at_once([*busy(core), *(core.jobs.accept(msg, ME) for msg in wanted)])
        assert codes(answers[LANES:]) == ["", "core.not-found", ""]
        assert core.db.commits == LANES + 1

    story_of(world, story)


def test_one_key_is_one_job_in_one_transaction_too(world: World) -> None:
    async def story(core: Core, there: str) -> None:
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
    async def story(core: Core, there: str) -> None:
        core.parts.context.config._values[JOB_QUEUE.name] = 3
        polishes = [core.jobs.accept(PolishGadget(uuid=there), ME) for _ in range(5)]
        answers = (await at_once([*busy(core), *polishes]))[LANES:]
        assert codes(answers) == ["", "", "", "core.queue-full", "core.queue-full"]
        jobs = [answer.uuid for answer in answers if isinstance(answer, Job)]
        order = select(job.c.uuid).where(job.c.api == "gadget.polish").order_by(job.c.seq)
        assert [str(row[0]) for row in world.ask(order)] == jobs

    story_of(world, story)


def test_a_bug_of_one_validator_is_not_the_others_fault(world: World) -> None:
    async def story(core: Core, there: str) -> None:
        def broken(tx: Any, msg: Any, caller: Any) -> None:
            raise RuntimeError("the validator has a bug")

        spec: JobSpec = core.jobs._by_type[TouchGadget]
        spec.validators.append(broken)
        wanted = [MakeGadget(name="g"), TouchGadget(uuid=there), MakeGadget(name="h")]
        answers = (await at_once([*busy(core), *(core.jobs.accept(msg, ME) for msg in wanted)]))[LANES:]
        assert codes(answers) == ["", "RuntimeError('the validator has a bug')", ""]

    story_of(world, story)


def test_rows_are_inserted_in_the_order_of_their_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes to which clients repeat the same requests would wait for each other's keys otherwise."""
    inserted: list[list[str | None]] = []
    insert_all = JobRepository.insert_all

    def watched(self: JobRepository, tx: Tx, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
        inserted.append([row["idempotency_key"] for row in rows])
        return insert_all(self, tx, rows)

    monkeypatch.setattr(JobRepository, "insert_all", watched)

    async def story(core: Core, there: str) -> None:
        makes = [core.jobs.accept(MakeGadget(name="g"), ME, key=key) for key in ("c", "a", "b")]
        assert codes(await at_once([*busy(core), *makes])) == [""] * (LANES + 3)
        assert inserted == [["a", "b", "c"]]

    story_of(world, story)


def test_what_would_make_one_statement_too_large_goes_in_several(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "TOGETHER_BYTES", 1)

    async def story(core: Core, there: str) -> None:
        answers = await at_once(core.jobs.accept(MakeGadget(name="g"), ME) for _ in range(LANES + 3))
        assert codes(answers) == [""] * (LANES + 3)
        assert core.db.commits == LANES + 3

    story_of(world, story)


def test_while_the_database_is_away_all_hear_of_it(world: World) -> None:
    async def story(core: Core, there: str) -> None:
        core.db.down = True
        answers = await at_once([core.jobs.accept(MakeGadget(name="g"), ME) for _ in range(LANES + 3)])
        assert codes(answers) == [DATABASE_DOWN.id] * (LANES + 3)
        core.db.down = False
        assert codes(await at_once([core.jobs.accept(MakeGadget(name="g"), ME)])) == [""]

    story_of(world, story)


def test_who_gives_up_waiting_is_not_accepted_and_who_is_being_accepted_goes_when_it_is(world: World) -> None:
    async def story(core: Core, there: str) -> None:
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
