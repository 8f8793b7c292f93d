"""Accepting and running jobs on one node: keys, order, queues, commits."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from mgmtnode.bus.message import ApiJob
from mgmtnode.errors import ApiError
from mgmtnode.jobs.acceptance import JOB_QUEUE
from mgmtnode.jobs.job import Caller, Job, JobState
from mgmtnode.jobs.pace import WHILE_BUSY, Pace
from mgmtnode.ring.slots import slot_of
from mgmtnode.schema import Uuid
from tests.virtual_time import run
from tests.workshop.contract import (
    AssembleGadget,
    BuildGadget,
    MakeGadget,
    PolishGadget,
    ShineGadget,
    TouchGadget,
)  # fmt: skip
from tests.workshop.world import HOST, ME, Core, World

OTHER = Caller(account_uuid="0190cccc-0000-7000-8000-000000000002", account_name="other")


async def gadget(core: Core, name: str = "g") -> str:
    return (await core.run(MakeGadget(name=name))).resource_uuid


def refused(code: str) -> Any:
    return pytest.raises(ApiError, match=code.replace(".", r"\."))


def test_a_job_of_one_transaction_costs_one_commit_after_its_acceptance(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            job = await core.run(MakeGadget(name="g"))
            assert (job.state, job.result["name"], job.progress) == (JobState.SUCCEEDED, "g", 100)
            assert core.db.commits == 2
            assert world.ends(job.uuid) == 1

    run(story)
    world.check_quiet()


@pytest.mark.parametrize(("message", "commits"), [(PolishGadget, 3), (ShineGadget, 4)])
def test_a_light_flow_costs_three_commits_and_a_recorded_step_one_more(
    world: World, message: type[ApiJob[Any]], commits: int
) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid = await gadget(core)
            core.db.commits = 0
            job = await core.run(message(uuid=uuid))  # type: ignore[call-arg]
            assert (job.state, core.db.commits) == (JobState.SUCCEEDED, commits)
            assert [(s.name, s.state) for s in job.steps or []] == [
                ("look", "Done"), ("polish", "Done"), ("note", "Done"),
            ]  # fmt: skip

    run(story)
    world.check_quiet()


def test_jobs_that_are_announced_in_the_wrong_order_run_in_the_right_one(world: World) -> None:
    """The reply to the later COMMIT may come first. Found by the simulation: the two waited for each other."""

    async def story() -> None:
        async with world.life() as core:
            uuid = await gadget(core)
            runner = core.jobs.runner
            assert runner is not None
            runner.hold([slot_of(uuid)])
            first, second = [await core.accept(TouchGadget(uuid=uuid, note=note)) for note in ("1", "2")]
            runner.release([slot_of(uuid)])
            runner.offer(world.row(second.uuid).seq, second.uuid, uuid)
            await asyncio.sleep(0)
            runner.offer(world.row(first.uuid).seq, first.uuid, uuid)
            async with asyncio.timeout(10):
                assert (await core.end(second)).state is (await core.end(first)).state is JobState.SUCCEEDED
            assert world.row(first.uuid).ended_at <= world.row(second.uuid).ended_at

    run(story)
    world.check_quiet()


def test_what_waits_for_its_turn_to_begin_does_not_begin_in_slots_that_move(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid, runner = await gadget(core), core.jobs.runner
            assert runner is not None
            runner._pace = Pace(lambda: True)
            others = [runner._pace for _ in range(WHILE_BUSY)]
            for other in others:
                await other.__aenter__()
            job = await core.accept(TouchGadget(uuid=uuid))
            await asyncio.sleep(1)
            runner.hold([slot_of(uuid)])
            for other in others:
                await other.__aexit__()
            assert await runner.suspend([slot_of(uuid)], 5.0) == []
            assert world.row(job.uuid).state == JobState.PENDING
            runner.release([slot_of(uuid)])
            await core.jobs.sweep()
            assert (await core.end(job)).state is JobState.SUCCEEDED

    run(story)


def test_the_same_key_and_request_give_the_same_job_and_another_request_is_refused(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            first = await core.accept(MakeGadget(name="g"), key="k")
            again = await core.accept(MakeGadget(name="g"), key="k")
            assert (again.uuid, again.resource_uuid, again.replayed) == (
                first.uuid,
                first.resource_uuid,
                True,
            )
            with refused("core.idempotency-key-reused"):
                await core.accept(MakeGadget(name="h"), key="k")
            elsewhere = await core.accept(MakeGadget(name="h"), key="k", caller=OTHER)
            assert elsewhere.uuid != first.uuid
            await core.end(first)
            await core.end(elsewhere)

    run(story)
    assert len(world.gadgets) == 2


def test_twenty_requests_at_once_with_one_key_are_one_job(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            jobs = await asyncio.gather(*(core.accept(MakeGadget(name="g"), key="k") for _ in range(20)))
            assert len({job.uuid for job in jobs}) == 1
            assert sum(not job.replayed for job in jobs) == 1
            await core.end(jobs[0])

    run(story)
    assert len(world.gadgets) == 1


def test_jobs_on_one_resource_run_in_accepted_order_and_never_together(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid = await gadget(core)
            jobs = [await core.accept(PolishGadget(uuid=uuid)) for _ in range(3)]
            jobs.append(await core.accept(TouchGadget(uuid=uuid)))
            ended = [await core.end(job) for job in jobs]
            assert all(job.state is JobState.SUCCEEDED for job in ended)
            times = [(job.started_at, job.ended_at) for job in ended]
            assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(times))

    run(story)
    world.check_quiet()


def test_a_waiting_job_tells_its_place_in_the_queue(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid, go = await gadget(core), asyncio.Event()
            world.deeds["polish"] = go.wait  # type: ignore[assignment]
            jobs = [await core.accept(PolishGadget(uuid=uuid)) for _ in range(3)]
            await asyncio.sleep(1)
            found = [await core.jobs.get(job.uuid, ME) for job in jobs]
            assert [job.queue_position for job in found] == [None, 1, 2]
            go.set()
            for job in jobs:
                await core.end(job)

    run(story)


def test_jobs_on_different_resources_run_at_the_same_time(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuids = [await gadget(core, f"g{n}") for n in range(5)]
            together = asyncio.Barrier(5)
            world.deeds["polish"] = together.wait  # type: ignore[assignment]
            jobs = [await core.accept(PolishGadget(uuid=uuid)) for uuid in uuids]
            assert {(await core.end(job)).state for job in jobs} == {JobState.SUCCEEDED}

    run(story)


def test_the_queue_of_a_resource_is_bounded(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid, go = await gadget(core), asyncio.Event()
            world.deeds["polish"] = go.wait  # type: ignore[assignment]
            limit = core.parts.context.config.get(JOB_QUEUE)
            jobs = [await core.accept(PolishGadget(uuid=uuid)) for _ in range(limit)]
            with refused("core.queue-full"):
                await core.accept(TouchGadget(uuid=uuid))
            go.set()
            for job in jobs:
                await core.end(job)
            assert (await core.run(TouchGadget(uuid=uuid))).state is JobState.SUCCEEDED

    run(story)


def test_what_another_account_owns_is_not_there(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid = await gadget(core)
            for message in (TouchGadget(uuid=uuid), MakeGadget(name="h", like_uuid=uuid)):
                with refused("core.not-found"):
                    await core.accept(message, caller=OTHER)
            with refused("core.not-found"):
                await core.accept(MakeGadget(name="h", like_uuid=HOST))
            job = await core.run(MakeGadget(name="h", like_uuid=uuid))
            with refused("core.not-found"):
                await core.jobs.get(job.uuid, OTHER)
            with refused("core.not-found"):
                await core.jobs.cancel(job.uuid, OTHER)

    run(story)


def test_a_validator_refuses_before_anything_is_written(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid = await gadget(core)
            with refused("gadget.broken"):
                await core.accept(TouchGadget(uuid=uuid, note="forbidden"))

    run(story)
    world.check_quiet()


def test_a_handler_that_fails_after_some_sql_leaves_nothing(world: World) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    async def story() -> None:
        async with world.life() as core:
            world.deeds["made"] = fail
            job = await core.run(MakeGadget(name="g"))
            assert (job.state, job.error and job.error.code) == (JobState.FAILED, "core.internal")

    run(story)
    world.check_quiet()
    assert not world.gadgets


def test_a_bug_is_logged_with_its_trace(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("a bug in the handler")

    async def story() -> None:
        async with world.life() as core:
            world.deeds["make"] = fail
            await core.run(MakeGadget(name="g"))

    run(story)
    assert any(r.exc_info and "a bug in the handler" in str(r.exc_info[1]) for r in caplog.records)


def test_a_dry_run_tells_what_would_be_decided_and_leaves_nothing(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            plan = await core.jobs.dry_run(BuildGadget(name="g"), ME)
            assert plan.steps == ["reserve", "cut", "drill", "measure", "paint", "ship"]
            assert plan.context["uuid"] == plan.resource_uuid
            assert (await core.jobs.dry_run(MakeGadget(name="g"), ME)).context["name"] == "g"
            with refused("core.not-found"):
                await core.jobs.dry_run(TouchGadget(uuid=plan.resource_uuid), ME)

    run(story)
    world.check_quiet()
    assert not world.gadgets and world.used == 0 and not world.host.registers


def test_every_waiter_hears_of_the_end_even_when_the_first_one_left(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid, go = await gadget(core), asyncio.Event()
            world.deeds["polish"] = go.wait  # type: ignore[assignment]
            job = await core.accept(PolishGadget(uuid=uuid))
            loop, start = asyncio.get_running_loop(), asyncio.get_running_loop().time()
            waiting = [asyncio.ensure_future(core.jobs.wait(job.uuid, s)) for s in (0.5, 30, 30)]
            loop.call_later(0.7, go.set)
            states = [(await w).state for w in waiting]
            assert states == [JobState.RUNNING, JobState.SUCCEEDED, JobState.SUCCEEDED]
            assert loop.time() - start < 1.0
            assert not len(core.jobs._ends)

    run(story)


def test_progress_and_steps_are_shown_while_a_job_runs(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid, go = await gadget(core), asyncio.Event()
            world.deeds["polish"] = go.wait  # type: ignore[assignment]
            job = await core.accept(PolishGadget(uuid=uuid))
            await asyncio.sleep(1)
            seen = await core.jobs.get(job.uuid, ME)
            assert (seen.state, seen.step, seen.progress) == (JobState.RUNNING, "polish", 33)
            assert [s.state for s in seen.steps or []] == ["Done", "Running", "Waiting"]
            go.set()
            await core.end(job)

    run(story)


def test_children_run_beside_each_other_and_their_failure_is_the_parents_to_judge(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            whole, *parts = [await gadget(core, f"g{n}") for n in range(4)]
            job = await core.run(AssembleGadget(uuid=whole, parts=parts))
            assert job.state is JobState.SUCCEEDED
            world.host.fail["polish"] = ApiError(_broken())
            job = await core.run(AssembleGadget(uuid=whole, parts=parts))
            assert (job.state, job.error and job.error.code) == (JobState.FAILED, "gadget.broken")
            assert "3 of 3" in str(job.error)

    run(story)
    world.check_quiet()


def _broken() -> Any:
    from tests.workshop.contract import BROKEN

    return BROKEN.error("scripted").problem


def test_a_refused_child_fails_the_parent_with_its_own_code(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            whole, part = await gadget(core), await gadget(core, "part")
            job = await core.accept(AssembleGadget(uuid=whole, parts=[part, whole], parallel=1))
            job = await core.end(job)
            assert (job.state, job.error and job.error.code) == (JobState.FAILED, "core.reentry")

    run(story)
    world.check_quiet()


def test_the_children_of_a_parent_that_fails_are_stopped_before_it_is_undone(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            whole, part = await gadget(core), await gadget(core, "part")
            world.deeds["polish"] = asyncio.Event().wait  # type: ignore[assignment]
            open_children: list[Any] = []

            def look() -> None:
                open_children.extend(r for r in world.ask(_children(job.uuid)) if r[1] is None)

            world.deeds["undo assemble"] = look
            job = await core.accept(AssembleGadget(uuid=whole, parts=[part, whole]))
            ended = await core.end(job)
            assert (ended.state, ended.error and ended.error.code) == (JobState.FAILED, "core.reentry")
            assert not open_children

    run(story)
    world.check_quiet()


def test_cancelling_a_parent_cancels_its_children_and_waits_for_them(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            whole, *parts = [await gadget(core, f"g{n}") for n in range(4)]
            never = asyncio.Event()
            world.deeds["polish"] = never.wait  # type: ignore[assignment]
            job = await core.accept(AssembleGadget(uuid=whole, parts=parts))
            await asyncio.sleep(1)
            await core.jobs.cancel(job.uuid, ME)
            ended = await core.end(job)
            assert ended.state is JobState.CANCELLED
            children = list(world.ask(_children(job.uuid)))
            assert {r[0] for r in children} == {"Cancelled"}
            assert all(r[1] <= ended.ended_at for r in children)

    run(story)
    world.check_quiet()


def _children(parent: Uuid) -> Any:
    from sqlalchemy import select

    from mgmtnode.db.tables import job

    return select(job.c.state, job.c.ended_at).where(job.c.parent_uuid == parent)


def test_a_parent_past_its_deadline_stops_its_children_before_it_is_undone(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            whole, part = await gadget(core), await gadget(core, "part")
            never = asyncio.Event()
            world.deeds["polish"] = never.wait  # type: ignore[assignment]
            job = await core.run(AssembleGadget(uuid=whole, parts=[part]), deadline=5.0)
            assert (job.state, job.error and job.error.code) == (JobState.FAILED, "core.timeout")
            ((state, ended),) = world.ask(_children(job.uuid))
            assert state in ("Failed", "Cancelled")
            assert ended <= _ended(job)

    run(story)
    world.check_quiet()


def _ended(job: Job) -> Any:
    return job.ended_at


def test_a_waiting_job_is_cancelled_at_once(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid, go = await gadget(core), asyncio.Event()
            world.deeds["polish"] = go.wait  # type: ignore[assignment]
            running, waiting = [await core.accept(PolishGadget(uuid=uuid)) for _ in range(2)]
            cancelled = await core.jobs.cancel(waiting.uuid, ME)
            assert (cancelled.state, cancelled.error and cancelled.error.code) == (
                JobState.CANCELLED, "core.cancelled",
            )  # fmt: skip
            go.set()
            assert (await core.end(running)).state is JobState.SUCCEEDED

    run(story)
    world.check_quiet()


def test_a_waiting_job_past_its_deadline_ends_though_its_turn_has_not_come(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid, go = await gadget(core), asyncio.Event()
            world.deeds["polish"] = go.wait  # type: ignore[assignment]
            running = await core.accept(PolishGadget(uuid=uuid))
            late = await core.run(PolishGadget(uuid=uuid), deadline=5.0)
            assert (late.state, late.error and late.error.code) == (JobState.FAILED, "core.timeout")
            go.set()
            assert (await core.end(running)).state is JobState.SUCCEEDED

    run(story)
    world.check_quiet()


def test_an_ended_job_is_cancelled_without_effect(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            job = await core.run(MakeGadget(name="g"))
            assert (await core.jobs.cancel(job.uuid, ME)).state is JobState.SUCCEEDED

    run(story)


def test_a_job_nobody_announced_is_found_by_the_sweep(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            assert core.jobs.runner is not None
            offer, core.jobs.runner.offer = core.jobs.runner.offer, lambda *a: None  # type: ignore[method-assign]
            job = await core.accept(MakeGadget(name="g"))
            core.jobs.runner.offer = offer  # type: ignore[method-assign]
            assert (await core.end(job)).state is JobState.SUCCEEDED

    run(story)


def test_old_jobs_are_forgotten_and_open_ones_are_not(world: World) -> None:
    async def story() -> None:
        async with world.life() as core:
            uuid, go = await gadget(core), asyncio.Event()
            world.deeds["polish"] = go.wait  # type: ignore[assignment]
            open_job = await core.accept(PolishGadget(uuid=uuid), deadline=1e8)
            await core.parts.context.periodic.stop()
            await asyncio.sleep(31 * 86400)
            await core.jobs.forget()
            assert [r[0] for r in world.ask(_uuids())] == [open_job.uuid]

    run(story)


def _uuids() -> Any:
    from sqlalchemy import select

    from mgmtnode.db.tables import job

    return select(job.c.uuid)
