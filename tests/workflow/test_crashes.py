"""The node dies at every boundary (each commit, each host command, before and after), and another life takes over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mgmtnode.bus.message import ApiJob
from mgmtnode.jobs.job import JobState
from tests.virtual_time import run
from tests.workshop.contract import BROKEN, AssembleGadget, BuildGadget, MakeGadget, PolishGadget, TouchGadget
from tests.workshop.world import HOST, ME, Core, World

OUTSIDE = {"cut", "drill", "paint"}
MOST = 60  # boundaries of the longest story


def check(world: World, uuid: str, *states: JobState) -> Any:
    """The job has ended in one of the states, and what is there fits it."""
    world.check_quiet()
    row = world.row(uuid)
    assert row.state in states, (row.state, row.error)
    present = world.host.of(row.resource_uuid).present
    if row.state == JobState.SUCCEEDED:
        assert row.resource_uuid in world.gadgets
        assert present == OUTSIDE
        assert world.events(row.resource_uuid) == [(1, "gadget.touched"), (2, "gadget.touched")]
    else:
        assert row.resource_uuid not in world.gadgets
        assert not present
    assert not world.debts
    return row


async def live(
    world: World, kills: Sequence[int], message: Callable[[], ApiJob[Any]]
) -> tuple[str | None, bool]:
    """Submits the job to a first life that dies at boundary ``kills[0]``, then lets one life after the other die,
    and a last one finish. The job, if it was acknowledged, and whether all the deaths came about."""
    job, died = None, True
    async with world.life(kills[0]) as core:
        accepting = asyncio.ensure_future(core.accept(message()))
        dying = asyncio.ensure_future(core.died.wait())
        await asyncio.wait({accepting, dying}, return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            job = accepting.result().uuid
            await _ended_or_dead(core, job)
        died = core.died.is_set()
    for kill in kills[1:] if died else ():
        async with world.life(kill) as core:
            if job:
                await _ended_or_dead(core, job)
            died = died and core.died.is_set()
    async with world.life() as core:
        for (uuid,) in world.ask(_uuids()):
            await core.end(await core.jobs.get(uuid, ME))
    return job, died


async def _ended_or_dead(core: Core, uuid: str) -> None:
    ending = asyncio.ensure_future(core.jobs.wait(uuid, 60))
    dying = asyncio.ensure_future(core.died.wait())
    await asyncio.wait({ending, dying}, return_when=asyncio.FIRST_COMPLETED)


def _uuids() -> Any:
    from sqlalchemy import select

    from mgmtnode.db.tables import job

    return select(job.c.uuid)


def at_every_boundary(world: World, story: Callable[[int], tuple[str | None, bool]]) -> int:
    for kill in range(MOST):
        _, died = story(kill)
        if not died:
            return kill
    raise AssertionError("more boundaries than thought")


def test_a_create_survives_a_crash_at_every_boundary(world: World) -> None:
    def story(kill: int) -> tuple[str | None, bool]:
        job, died = run(lambda: live(world, [kill], lambda: BuildGadget(name=f"g{kill}")))
        if job:
            check(world, job, JobState.SUCCEEDED)
        return job, died

    assert at_every_boundary(world, story) >= 14
    assert world.used == len(world.gadgets)


def test_a_create_survives_two_crashes(world: World) -> None:
    for kills in [(a, b) for a in range(2, 14, 3) for b in range(0, 9, 2)]:
        job, _ = run(lambda kills=kills: live(world, kills, lambda: BuildGadget(name=f"g{kills}")))
        if job:
            check(world, job, JobState.SUCCEEDED)
    assert world.used == len(world.gadgets)


@pytest.mark.parametrize("place", ["cut", "drill", "measure", "paint", "ship"])
def test_a_rollback_survives_a_crash_at_every_boundary(world: World, place: str) -> None:
    def broken() -> None:
        raise BROKEN.error("scripted")

    world.deeds[place] = broken

    def story(kill: int) -> tuple[str | None, bool]:
        job, died = run(lambda: live(world, [kill], lambda: BuildGadget(name=f"g{kill}")))
        if job:
            row = check(world, job, JobState.FAILED)
            assert row.error.code == "gadget.broken"
        return job, died

    at_every_boundary(world, story)
    assert world.used == 0


def test_a_rollback_that_was_written_down_never_turns_forward_again(world: World) -> None:
    left = [1]

    def broken_once() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise BROKEN.error("scripted")

    def story(kill: int) -> tuple[str | None, bool]:
        left[0] = 1
        world.deeds["paint"] = broken_once
        job, died = run(lambda: live(world, [kill], lambda: BuildGadget(name=f"g{kill}")))
        if job:
            check(world, job, JobState.FAILED, JobState.SUCCEEDED)
        return job, died

    at_every_boundary(world, story)
    assert world.used == len(world.gadgets)


def test_a_cancel_before_the_crash_is_honoured_after_it(world: World) -> None:
    async def story() -> str:
        async with world.life() as core:
            world.deeds["paint"] = lambda: asyncio.sleep(1e6)
            job = await core.accept(BuildGadget(name="g"))
            await asyncio.sleep(1)
            core.jobs.runner.running.clear()  # type: ignore[union-attr]  # as if another node had been asked
            await core.jobs.cancel(job.uuid, ME)
        world.deeds.clear()
        async with world.life() as core:
            await core.end(job)
        return job.uuid

    assert check(world, run(story), JobState.CANCELLED).error.code == "core.cancelled"


def test_a_deadline_that_passed_while_nobody_was_there_is_honoured(world: World) -> None:
    async def story() -> str:
        async with world.life() as core:
            world.deeds["paint"] = lambda: asyncio.sleep(1e6)
            job = await core.accept(BuildGadget(name="g"), deadline=30.0)
            await asyncio.sleep(1)
        world.deeds.clear()
        await asyncio.sleep(60)
        async with world.life() as core:
            await core.end(job)
        return job.uuid

    assert check(world, run(story), JobState.FAILED).error.code == "core.timeout"


@pytest.mark.parametrize(("crashes", "state"), [(2, JobState.SUCCEEDED), (3, JobState.FAILED)])
def test_three_crashes_roll_the_job_back(world: World, crashes: int, state: JobState) -> None:
    async def story() -> str:
        uuid = ""
        for _ in range(crashes):
            async with world.life() as core:
                world.deeds["paint"] = core.died.wait  # type: ignore[assignment]
                uuid = uuid or (await core.accept(BuildGadget(name="g"))).uuid
                await asyncio.sleep(5)
        world.deeds.clear()
        async with world.life() as core:
            await core.end(await core.jobs.get(uuid, ME))
        return uuid

    row = check(world, run(story), state)
    assert row.crashes == crashes
    if state is JobState.FAILED:
        assert row.error.code == "core.interrupted"


def test_five_crashes_poison_the_job_and_quarantine_what_it_holds(world: World) -> None:
    async def story() -> str:
        uuid = ""
        for _ in range(5):
            async with world.life() as core:
                world.deeds["paint"] = world.deeds["undo paint"] = core.died.wait  # type: ignore[assignment]
                uuid = uuid or (await core.accept(BuildGadget(name="g"))).uuid
                await asyncio.sleep(5)
        async with world.life() as core:
            await core.end(await core.jobs.get(uuid, ME))
        return uuid

    row = world.row(run(story))
    assert (row.state, row.error.code, row.crashes) == ("Failed", "core.poison", 5)
    assert (world.allocations, world.debts) == (["QUARANTINED"], [(HOST, row.resource_uuid)])
    world.check_quiet()


def test_a_stop_in_good_order_is_no_crash(world: World) -> None:
    async def story() -> str:
        uuid = ""
        for _ in range(6):
            async with world.life() as core:
                world.deeds["paint"] = lambda: asyncio.sleep(1e6)
                uuid = uuid or (await core.accept(BuildGadget(name="g"))).uuid
                await asyncio.sleep(5)
                await core.stop()
        world.deeds.clear()
        async with world.life() as core:
            await core.end(await core.jobs.get(uuid, ME))
        return uuid

    assert check(world, run(story), JobState.SUCCEEDED).crashes == 0


def test_a_last_command_that_failed_before_the_crash_is_rolled_back(world: World) -> None:
    async def story() -> str:
        async with world.life() as core:
            job = await core.accept(BuildGadget(name="g"))
            while "after drill" not in core.boundaries:
                await asyncio.sleep(0)
        register = world.host.of(job.resource_uuid)
        register.state, register.error = "FAILED", BROKEN.error("it had failed")
        async with world.life() as core:
            await core.end(job)
        return job.uuid

    assert check(world, run(story), JobState.FAILED).error.code == "core.interrupted"


def test_an_unreachable_host_keeps_the_job_until_it_is_back(world: World) -> None:
    async def story() -> str:
        async with world.life() as core:
            world.deeds["paint"] = lambda: asyncio.sleep(1e6)
            job = await core.accept(BuildGadget(name="g"))
            await asyncio.sleep(1)
        world.deeds.clear()
        world.host.away = True
        async with world.life() as core:
            await asyncio.sleep(300)
            assert (await core.jobs.get(job.uuid, ME)).state is JobState.RUNNING
            world.host.away = False
            await core.end(job)
        return job.uuid

    check(world, run(story), JobState.SUCCEEDED)


@pytest.mark.parametrize("place", ["nowhere", "paint"])
def test_a_lost_reply_of_each_commit_ends_well(world: World, place: str) -> None:
    def broken() -> None:
        raise BROKEN.error("scripted")

    world.deeds[place] = broken

    async def story(lost: int) -> tuple[str, bool]:
        async with world.life() as core:
            core.db.lose = {lost}
            job = await core.accept(BuildGadget(name=f"g{lost}"), key=f"k{lost}") if lost > 1 else None
            if job is None:
                with pytest.raises(Exception, match="the reply was lost"):
                    await core.accept(BuildGadget(name=f"g{lost}"), key=f"k{lost}")
                job = await core.accept(BuildGadget(name=f"g{lost}"), key=f"k{lost}")
                assert job.replayed
            await core.end(job)
            return job.uuid, core.db.writes >= lost

    wanted = JobState.FAILED if place == "paint" else JobState.SUCCEEDED
    for lost in range(1, 20):
        uuid, was_lost = run(lambda lost=lost: story(lost))
        check(world, uuid, wanted)
        if wanted is JobState.SUCCEEDED:
            assert world.row(uuid).result["name"] == f"g{lost}[0]", "the context began as it was"
        if not was_lost:
            break
    assert lost > 4
    assert world.used == len(world.gadgets)


def test_a_commit_that_is_refused_is_made_again_with_the_context_as_it_was(world: World) -> None:
    async def story(refused: int) -> tuple[str, bool]:
        async with world.life() as core:
            job = await core.accept(BuildGadget(name="g"))
            core.db.refuse = {core.db.writes + refused}
            last = max(core.db.refuse)
            await core.end(job)
            return job.uuid, core.db.writes >= last

    for refused in range(1, 20):
        uuid, was_refused = run(lambda refused=refused: story(refused))
        check(world, uuid, JobState.SUCCEEDED)
        assert world.row(uuid).result["name"] == "g[0]"
        if not was_refused:
            break
    assert refused > 3


def test_an_owner_that_was_superseded_writes_nothing_and_commands_nothing(world: World) -> None:
    async def story() -> str:
        go, visits = asyncio.Event(), [0]

        async def linger() -> None:
            visits[0] += 1
            if visits[0] == 1:
                await go.wait()

        world.deeds["paint"] = linger
        async with world.life() as first:
            job = await first.accept(BuildGadget(name="g"))
            await asyncio.sleep(1)
            async with world.life() as second:
                await second.end(job)
                log = list(world.host.of(job.resource_uuid).log)
                go.set()
                await asyncio.sleep(10)
                assert first.jobs.runner is not None and not first.jobs.runner.running
                assert world.host.of(job.resource_uuid).log == log
        return job.uuid

    assert check(world, run(story), JobState.SUCCEEDED).crashes == 1


def test_a_superseded_owner_does_not_end_the_job_of_its_successor(world: World) -> None:
    async def story() -> str:
        here, there, visits = asyncio.Event(), asyncio.Event(), [0]

        async def linger() -> None:
            visits[0] += 1
            await (here if visits[0] == 1 else there).wait()

        world.deeds["polish"] = linger
        async with world.life() as first:
            uuid = (await first.run(MakeGadget(name="g"))).resource_uuid
            job = await first.accept(PolishGadget(uuid=uuid))
            await asyncio.sleep(1)
            world.host.registers.clear()  # a host that does not refuse: the database has to
            async with world.life() as second:
                await asyncio.sleep(3)
                here.set()
                await asyncio.sleep(3)
                assert world.row(job.uuid).state == "Running"
                there.set()
                await second.end(job)
        return job.uuid

    assert world.row(run(story)).state == "Succeeded"


def test_a_deletion_with_children_survives_a_crash_at_every_boundary(world: World) -> None:
    """The children of a resumed step are the same children."""

    async def story(kill: int) -> bool:
        async with world.life() as core:
            uuids = [(await core.run(MakeGadget(name=f"g{n}"))).resource_uuid for n in range(3)]
        async with world.life(kill) as core:
            accepting = asyncio.ensure_future(core.accept(AssembleGadget(uuid=uuids[0], parts=uuids[1:])))
            dying = asyncio.ensure_future(core.died.wait())
            await asyncio.wait({accepting, dying}, return_when=asyncio.FIRST_COMPLETED)
            if accepting.done():
                await _ended_or_dead(core, accepting.result().uuid)
            died = core.died.is_set()
        async with world.life() as core:
            for (uuid,) in world.ask(_uuids()):
                await core.end(await core.jobs.get(uuid, ME))
        for part in uuids[1:]:
            assert sum(action == "polish" for _, action in world.host.of(part).log) <= 1
        if accepting.done() and not accepting.cancelled():
            assert world.row(accepting.result().uuid).state == JobState.SUCCEEDED
        return died

    for kill in range(MOST):
        if not run(lambda kill=kill: story(kill)):
            break
    world.check_quiet()


def test_a_job_begun_by_a_later_release_is_left_to_it(world: World) -> None:
    uuid = run(lambda: _half_done(world))
    world.database.run(lambda tx: _journal(tx, uuid, version=99))

    async def story() -> None:
        async with world.life():
            await asyncio.sleep(30)

    run(story)
    assert world.row(uuid).state == "Running"


def test_a_job_begun_by_an_earlier_release_that_nobody_can_go_on_with_is_given_up(world: World) -> None:
    uuid = run(lambda: _half_done(world))
    world.database.run(lambda tx: _journal(tx, uuid, version=0))

    async def story() -> None:
        async with world.life() as core:
            await core.end(await core.jobs.get(uuid, ME))

    run(story)
    row = world.row(uuid)
    assert (row.state, row.error.code, world.allocations) == ("Failed", "core.internal", ["QUARANTINED"])
    world.check_quiet()


def test_an_unreadable_payload_fails_the_job_and_frees_the_resource(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid = (await core.run(MakeGadget(name="g"))).resource_uuid
            assert core.jobs.runner is not None
            core.jobs.runner.closing = True
            job = await core.accept(TouchGadget(uuid=uuid))
        world.database.run(lambda tx: _payload(tx, job.uuid, '{"uuid":7}'))
        async with world.life() as core:
            assert (await core.end(job)).state is JobState.FAILED
            assert (await core.run(TouchGadget(uuid=uuid))).state is JobState.SUCCEEDED

    run(story)
    world.check_quiet()


def test_a_request_with_a_field_that_no_node_knows_waits_for_one_that_does_until_its_deadline(
    world: World,
) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid = (await core.run(MakeGadget(name="g"))).resource_uuid
            assert core.jobs.runner is not None
            core.jobs.runner.closing = True
            job = await core.accept(TouchGadget(uuid=uuid))
        later = f'{{"uuid":"{uuid}","shape":"of a later release"}}'
        world.database.run(lambda tx: _payload(tx, job.uuid, later))
        async with world.life():
            await asyncio.sleep(60)
            assert world.row(job.uuid).state == "Pending"
            await asyncio.sleep(1800)
        row = world.row(job.uuid)
        assert (row.state, row.error.code) == ("Failed", "core.timeout")

    run(story)
    world.check_quiet()


async def _half_done(world: World) -> str:
    async with world.life() as core:
        world.deeds["paint"] = lambda: asyncio.sleep(1e6)
        job = await core.accept(BuildGadget(name="g"))
        await asyncio.sleep(1)
    world.deeds.clear()
    return job.uuid


def _journal(tx: Any, uuid: str, *, version: int) -> None:
    from sqlalchemy import select, update

    from mgmtnode.db.tables import job

    text = tx.execute(select(job.c.journal).where(job.c.uuid == uuid)).scalar()
    text = text.replace('"version":1', f'"version":{version}')
    assert f'"version":{version}' in text
    tx.execute(update(job).where(job.c.uuid == uuid).values(journal=text))


def _payload(tx: Any, uuid: str, payload: str) -> None:
    from sqlalchemy import update

    from mgmtnode.db.tables import job

    tx.execute(update(job).where(job.c.uuid == uuid).values(payload=payload))
