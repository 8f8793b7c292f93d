"""Flows going forward and back on one node: failures, undos, cancels and deadlines at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mgmtnode.jobs.job import Job, JobState
from mgmtnode.jobs.jobs import UNDO_SECONDS
from mgmtnode.jobs.repository import JobRepository
from tests.virtual_time import run
from tests.workshop.contract import BROKEN, JAMMED, BuildGadget, PolishGadget, TouchGadget
from tests.workshop.world import HOST, ME, Core, World

STEPS = ["reserve", "cut", "drill", "measure", "paint", "ship"]
OUTSIDE = ["cut", "drill", "paint"]
COMMANDS = [*OUTSIDE, *(f"undo {name}" for name in OUTSIDE)]


def undone(world: World, job: Job) -> None:
    """A create that did not succeed left nothing."""
    world.check_quiet()
    assert job.resource_uuid not in world.gadgets
    assert (world.used, world.allocations, world.debts) == (0, [], [])
    assert not world.host.of(job.resource_uuid).present


def broken() -> None:
    raise BROKEN.error("scripted")


def bug() -> None:
    raise KeyError("scripted")


def test_a_flow_builds_what_it_should(world: World) -> None:
    async def story() -> Job:
        async with world.life() as core:
            return await core.run(BuildGadget(name="g"))

    job = run(story)
    assert (job.state, job.result["name"]) == (JobState.SUCCEEDED, "g[0]")
    assert world.host.of(job.resource_uuid).present == set(OUTSIDE)
    assert [s.state for s in job.steps or []] == ["Done"] * 6
    assert world.events(job.resource_uuid) == [(1, "gadget.touched"), (2, "gadget.touched")]
    assert (world.used, world.gadgets) == (1, {job.resource_uuid})
    world.check_quiet()


@pytest.mark.parametrize("place", STEPS)
@pytest.mark.parametrize(("deed", "code"), [(broken, "gadget.broken"), (bug, "core.internal")])
def test_a_failure_at_each_step_is_undone_from_that_step_down(
    world: World, place: str, deed: Callable[[], None], code: str
) -> None:
    async def story() -> tuple[Job, Core]:
        async with world.life() as core:
            world.deeds[place] = deed
            return await core.run(BuildGadget(name="g")), core

    job, core = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, code)
    undone(world, job)
    failed = STEPS.index(place)
    wanted = [f"undo {name}" for name in reversed(STEPS[: failed + 1]) if name != "ship"]
    done = [place for place in core.bench.visits if place.startswith("undo ")]
    assert done == ([] if failed == 0 else wanted)


@pytest.mark.parametrize("place", OUTSIDE)
def test_a_failed_host_command_is_undone_too(world: World, place: str) -> None:
    async def story() -> Job:
        async with world.life() as core:
            world.host.fail[place] = BROKEN.error("the host said so")
            return await core.run(BuildGadget(name="g"))

    job = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, "gadget.broken")
    assert f"undo {place}" in [action for _, action in world.host.of(job.resource_uuid).log]
    undone(world, job)


@pytest.mark.parametrize("place", OUTSIDE)
def test_an_undo_that_fails_for_a_while_is_tried_again(world: World, place: str) -> None:
    left = [3]

    def fail() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise JAMMED.error("scripted")

    async def story() -> Job:
        async with world.life() as core:
            world.deeds["ship"] = broken
            world.deeds[f"undo {place}"] = fail
            return await core.run(BuildGadget(name="g"))

    undone(world, run(story))


@pytest.mark.parametrize("place", OUTSIDE)
@pytest.mark.parametrize("deed", [broken, bug])
def test_an_undo_that_fails_for_good_leaves_a_debt_and_a_quarantine(
    world: World, place: str, deed: Callable[[], None]
) -> None:
    async def story() -> Job:
        async with world.life() as core:
            world.deeds["ship"] = broken
            world.deeds[f"undo {place}"] = deed
            return await core.run(BuildGadget(name="g"))

    job = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, "gadget.broken")
    assert (world.used, world.allocations) == (1, ["QUARANTINED"])
    assert world.debts == [(HOST, job.resource_uuid)]
    assert [s.name for s in job.steps or [] if s.state == "UndoFailed"] == [place]
    others = {name for name in OUTSIDE if name != place}
    assert not world.host.of(job.resource_uuid).present & others, "the other undos are done all the same"
    world.check_quiet()


def test_an_unreachable_host_is_undone_on_until_the_time_for_it_is_over(world: World) -> None:
    def go_away() -> None:
        world.host.away = True

    async def story() -> float:
        async with world.life() as core:
            world.deeds["measure"] = go_away
            loop = asyncio.get_running_loop()
            start = loop.time()
            job = await core.run(BuildGadget(name="g"))
            assert job.state is JobState.FAILED
            assert world.debts == [(HOST, job.resource_uuid)]
            return loop.time() - start - core.parts.context.config.get(UNDO_SECONDS)

    assert 0 <= run(story) < 30


@pytest.mark.parametrize("place", OUTSIDE)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_cancel_at_each_step_rolls_back(world: World, place: str, after: bool) -> None:
    async def story() -> Job:
        async with world.life() as core:
            job = None

            async def cancel() -> None:
                if not after:
                    await asyncio.sleep(1)
                assert job is not None
                asyncio.get_running_loop().call_later(0, lambda: None)
                await core.jobs.cancel(job.uuid, ME)

            world.deeds[place] = _in_background(cancel) if not after else cancel
            job = await core.accept(BuildGadget(name="g"))
            return await core.end(job)

    job = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.CANCELLED, "core.cancelled")
    undone(world, job)


@pytest.mark.parametrize("place", OUTSIDE)
def test_a_cancel_that_only_the_database_knows_of_rolls_back_before_the_end(world: World, place: str) -> None:
    """As when another node took it, and its message is lost or late."""

    async def story() -> Job:
        async with world.life() as core:
            job = await core.accept(BuildGadget(name="g"))

            def cancel() -> None:
                assert world.database.run(lambda tx: JobRepository().request_cancel(tx, job.uuid))

            world.deeds[place] = cancel
            return await core.end(job)

    job = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.CANCELLED, "core.cancelled")
    assert [step.state for step in job.steps or []][-1] == "Waiting"
    undone(world, job)


def _in_background(deed: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Starts ``deed`` and hangs, as a long host command does."""
    tasks = set()

    async def hang() -> None:
        tasks.add(asyncio.ensure_future(deed()))
        await asyncio.sleep(1e6)

    return hang


@pytest.mark.parametrize("place", OUTSIDE)
def test_the_deadline_at_each_step_rolls_back(world: World, place: str) -> None:
    async def story() -> Job:
        async with world.life() as core:
            world.deeds[place] = lambda: asyncio.sleep(1e6)
            return await core.run(BuildGadget(name="g"), deadline=20.0)

    job = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, "core.timeout")
    undone(world, job)


def test_a_cancel_during_the_rollback_changes_nothing(world: World) -> None:
    async def story() -> Job:
        async with world.life() as core:
            world.deeds["ship"] = broken
            world.deeds["undo drill"] = lambda: asyncio.sleep(3)
            job = await core.accept(BuildGadget(name="g"))
            await asyncio.sleep(1)
            assert (await core.jobs.cancel(job.uuid, ME)).state is JobState.ROLLING_BACK
            return await core.end(job)

    job = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, "gadget.broken")
    undone(world, job)


def test_a_step_pauses_while_the_database_is_away(world: World) -> None:
    async def story() -> Job:
        async with world.life() as core:

            async def outage() -> None:
                core.db.down = True
                asyncio.get_running_loop().call_later(60, setattr, core.db, "down", False)
                await core.db.read(lambda tx: tx.now)

            uuid = (await core.run(BuildGadget(name="g"))).resource_uuid
            world.deeds["polish"] = _once(outage)
            job = await core.accept(PolishGadget(uuid=uuid))
            await asyncio.sleep(70)
            return await core.end(job)

    assert run(story).state is JobState.SUCCEEDED
    world.check_quiet()


def test_a_rollback_is_not_given_up_because_the_database_is_slow(world: World) -> None:
    async def story() -> Job:
        async with world.life() as core:

            async def break_down() -> None:
                core.db.slow = True
                asyncio.get_running_loop().call_later(300, setattr, core.db, "slow", False)
                raise BROKEN.error("while the database is slow")

            world.deeds["paint"] = break_down
            job = await core.accept(BuildGadget(name="g"))
            await asyncio.sleep(310)
            return await core.end(job)

    job = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, "gadget.broken")
    assert world.row(job.uuid).crashes == 0
    undone(world, job)


def _once(deed: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None] | None]:
    left = [deed]
    return lambda: left.pop()() if left else None


def test_a_step_that_is_cancelled_from_within_is_a_bug_not_a_timeout(world: World) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    async def story() -> Job:
        async with world.life() as core:
            world.deeds["paint"] = give_up
            return await core.run(BuildGadget(name="g"))

    job = run(story)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, "core.internal")
    undone(world, job)


def test_a_failed_job_does_not_keep_the_next_ones_from_the_resource(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid = (await core.run(BuildGadget(name="g"))).resource_uuid
            world.deeds["polish"] = bug
            jobs = [await core.accept(PolishGadget(uuid=uuid)), await core.accept(TouchGadget(uuid=uuid))]
            assert [(await core.end(job)).state for job in jobs] == [JobState.FAILED, JobState.SUCCEEDED]

    run(story)
    world.check_quiet()
