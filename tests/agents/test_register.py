"""The rules of the ordered command register, one by one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mgmtnode.agents.file import AgentFile
from mgmtnode.agents.port import NEVER, OLD, REUSED, STALE, UNREACHABLE, Answer, CommandState
from mgmtnode.agents.repository import SCHEMA
from mgmtnode.errors import OVERLOADED, UNAVAILABLE, ApiError, ErrorCode
from tests.agents.world import BROKEN, Agent, World, command

Story = Callable[[World, Agent], Awaitable[None]]


def tell(story: Story, path: Path | str = ":memory:", *, inline: bool = True, limit: int = 100) -> None:
    async def told() -> None:
        world = World()
        agent = Agent(path, world, inline=inline, limit=limit)
        try:
            await asyncio.wait_for(story(world, agent), 10)
        finally:
            await agent.register.stop()
            await agent.file.close()

    asyncio.run(told())


async def refused(code: ErrorCode, attempt: Awaitable[object]) -> None:
    with pytest.raises(ApiError) as caught:
        await attempt
    assert caught.value.code == code.id


def test_a_command_is_done_and_its_result_returned() -> None:
    async def story(world: World, agent: Agent) -> None:
        answer = await agent.register.command(command((1, 1, 1)), 1)
        assert answer == Answer(result={"did": "vm-1(1, 1, 1)start"})
        assert world.effects.total() == 1

    tell(story)


def test_the_same_order_again_gets_the_stored_result_without_a_second_effect() -> None:
    async def story(world: World, agent: Agent) -> None:
        first = await agent.register.command(command((1, 1, 1)), 1)
        again = await agent.register.command(command((1, 1, 1)), 1)
        assert (again.result, again.replayed) == (first.result, True)
        assert world.effects.total() == 1

    tell(story)


def test_a_failure_is_stored_like_a_result() -> None:
    async def story(world: World, agent: Agent) -> None:
        world.failing.add("start")
        first = await agent.register.command(command((1, 1, 1)), 1)
        world.failing.clear()
        again = await agent.register.command(command((1, 1, 1)), 1)
        assert first.problem is not None
        assert first.problem.code == BROKEN.id
        assert again.problem == first.problem
        assert world.effects.total() == 0

    tell(story)


def test_results_and_failures_outlive_the_agents_process(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        world.failing.add("stop")
        await agent.register.command(command((1, 1, 1)), 1)
        await agent.register.command(command((1, 1, 1), action="stop", resource="vm-2"), 1)
        world.failing.clear()
        await agent.crash()
        done = await agent.register.command(command((1, 1, 1)), 1)
        failed = await agent.register.command(command((1, 1, 1), action="stop", resource="vm-2"), 1)
        assert done.result == {"did": "vm-1(1, 1, 1)start"}
        assert failed.problem is not None
        assert world.effects.total() == 1

    tell(story, tmp_path / "agent.db")


def test_a_lower_fence_is_stale_even_with_a_higher_order() -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((1, 1, 1), fence=7), 1)
        await refused(STALE, agent.register.command(command((2, 1, 1), fence=6), 1))
        await refused(STALE, agent.register.seal("vm-1", 6, 1))

    tell(story)


def test_a_lower_order_is_old_even_with_a_higher_fence() -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((2, 1, 1)), 1)
        await refused(OLD, agent.register.command(command((1, 9, 9), fence=9), 1))
        assert world.effects.total() == 1

    tell(story)


def test_fences_and_orders_of_different_resources_are_independent() -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((9, 1, 1), fence=9), 1)
        await agent.register.command(command((1, 1, 1), fence=1, resource="vm-2"), 1)
        assert world.effects.total() == 2

    tell(story)


def test_another_action_under_the_same_order_is_refused() -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((1, 1, 1)), 1)
        await refused(REUSED, agent.register.command(command((1, 1, 1), action="stop"), 1))

    tell(story)


def test_a_fence_that_came_with_a_repetition_survives_a_crash(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((1, 1, 1), fence=1), 1)
        await agent.register.command(command((1, 1, 1), fence=5), 1)
        await agent.crash()
        await refused(STALE, agent.register.command(command((2, 1, 1), fence=4), 1))

    tell(story, tmp_path / "agent.db")


def test_a_long_command_answers_that_it_runs_and_goes_on_when_nobody_waits() -> None:
    async def story(world: World, agent: Agent) -> None:
        gate = world.gates["start"] = asyncio.Event()
        assert (await agent.register.command(command((1, 1, 1)), 0)).running
        assert (await agent.register.command(command((1, 1, 1)), 0.01)).running
        gate.set()
        answer = await agent.register.command(command((1, 1, 1)), 5)
        assert answer.result == {"did": "vm-1(1, 1, 1)start"}
        assert world.effects.total() == 1

    tell(story)


def test_a_waiting_caller_that_gives_up_does_not_stop_the_command() -> None:
    async def story(world: World, agent: Agent) -> None:
        gate = world.gates["start"] = asyncio.Event()
        caller = asyncio.create_task(agent.register.command(command((1, 1, 1)), 5))
        await world.entered.wait()
        caller.cancel()
        gate.set()
        assert (await agent.register.command(command((1, 1, 1)), 5)).problem is None
        assert world.effects.total() == 1

    tell(story)


def test_commands_of_one_resource_never_overlap_and_those_of_others_do() -> None:
    async def story(world: World, agent: Agent) -> None:
        gate = world.gates["start"] = asyncio.Event()
        first = asyncio.create_task(agent.register.command(command((1, 1, 1)), 5))
        second = asyncio.create_task(agent.register.command(command((1, 2, 1), action="stop"), 5))
        await world.entered.wait()
        await agent.register.command(command((1, 1, 1), action="stop", resource="vm-2"), 5)
        assert world.log == ["vm-2(1, 1, 1)stop"]
        gate.set()
        await asyncio.gather(first, second)
        assert world.log[1:] == ["vm-1(1, 1, 1)start", "vm-1(1, 2, 1)stop"]

    tell(story)


def test_a_seal_waits_for_the_running_command_and_tells_the_new_owner_how_it_ended() -> None:
    async def story(world: World, agent: Agent) -> None:
        gate = world.gates["start"] = asyncio.Event()
        owner = asyncio.create_task(agent.register.command(command((1, 1, 1)), 5))
        await world.entered.wait()
        assert (await agent.register.seal("vm-1", 2, 0)).running
        sealing = asyncio.create_task(agent.register.seal("vm-1", 2, 5))
        gate.set()
        sealed = await sealing
        assert (sealed.order, sealed.state) == ((1, 1, 1), CommandState.DONE)
        await refused(STALE, owner)
        await refused(STALE, agent.register.command(command((1, 2, 1), fence=1), 1))

    tell(story)


def test_a_command_that_queued_before_the_seal_is_refused_after_it() -> None:
    async def story(world: World, agent: Agent) -> None:
        gate = world.gates["start"] = asyncio.Event()
        running = asyncio.create_task(agent.register.command(command((1, 1, 1)), 5))
        await world.entered.wait()
        queued = asyncio.create_task(agent.register.command(command((1, 2, 1)), 5))
        sealing = asyncio.create_task(agent.register.seal("vm-1", 2, 5))
        await asyncio.sleep(0)
        gate.set()
        await sealing
        await refused(STALE, running)
        await refused(STALE, queued)
        assert world.effects.total() == 1

    tell(story)


def test_a_seal_of_a_resource_without_commands_still_fences(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        sealed = await agent.register.seal("vm-1", 5, 1)
        assert (sealed.order, sealed.state, sealed.identity) == (NEVER, None, "first")
        await agent.crash()
        await refused(STALE, agent.register.command(command((1, 1, 1), fence=4), 1))

    tell(story, tmp_path / "agent.db")


def test_a_command_cut_off_before_its_effect_is_done_when_it_is_sent_again(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        world.gates["start"] = asyncio.Event()
        caller = asyncio.create_task(agent.register.command(command((1, 1, 1)), 5))
        await world.entered.wait()
        await agent.crash()
        await refused(UNREACHABLE, caller)
        sealed = await agent.register.seal("vm-1", 1, 1)
        assert sealed.state is CommandState.STARTED
        assert not sealed.covers((1, 1, 1))
        world.gates.clear()
        await agent.register.command(command((1, 1, 1)), 1)
        assert world.effects.total() == 1

    tell(story, tmp_path / "agent.db")


def test_a_seal_settles_a_command_whose_effect_came_before_the_crash(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        world.gates["start"] = asyncio.Event()
        caller = asyncio.create_task(agent.register.command(command((1, 1, 1)), 5))
        await world.entered.wait()
        await agent.crash()
        await refused(UNREACHABLE, caller)
        world.effects["vm-1(1, 1, 1)start"] += 1
        sealed = await agent.register.seal("vm-1", 1, 1)
        assert (sealed.state, sealed.result) == (CommandState.DONE, {"did": "vm-1(1, 1, 1)start"})
        assert sealed.covers((1, 1, 1))

    tell(story, tmp_path / "agent.db")


def test_forgotten_resources_stay_closed_to_the_work_of_ended_jobs(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((3, 1, 1)), 1)
        await agent.register.command(command((9, 1, 1), resource="vm-2"), 1)
        assert agent.register.ended(5, after="", limit=10) == {"vm-1": 1}
        assert await agent.register.forget(5, {"vm-1": 1, "vm-2": 1, "vm-3": 1}) == 1
        await agent.crash()
        await refused(OLD, agent.register.command(command((3, 2, 1), fence=9), 1))
        await agent.register.command(command((5, 1, 1)), 1)
        assert (await agent.register.seal("vm-2", 1, 1)).order == (9, 1, 1)

    tell(story, tmp_path / "agent.db")


def test_what_has_ended_is_listed_page_by_page(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        for number in (3, 1, 4, 2, 5):
            await agent.register.command(command((number, 1, 1), resource=f"vm-{number}"), 1)
        world.gates["pause"] = asyncio.Event()
        await agent.register.command(command((6, 1, 1), action="pause", resource="vm-1"), 0)
        listed = [agent.register.ended(5, after=after, limit=2) for after in ("", "vm-3", "vm-4")]
        assert [list(page) for page in listed] == [["vm-2", "vm-3"], ["vm-4"], []]

    tell(story, tmp_path / "agent.db")


def test_a_resource_that_was_fenced_since_it_was_listed_is_not_forgotten(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((3, 1, 1)), 1)
        listed = agent.register.ended(5, after="", limit=10)
        await agent.register.seal("vm-1", 2, 1)
        assert await agent.register.forget(5, listed) == 0
        await refused(STALE, agent.register.command(command((7, 1, 1)), 1))

    tell(story, tmp_path / "agent.db")


def test_a_new_disk_is_a_new_identity_without_memory(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((3, 1, 1), fence=7), 1)
        await agent.register.replace("second")
        sealed = await agent.register.seal("vm-1", 1, 1)
        assert (sealed.identity, sealed.order) == ("second", NEVER)
        await agent.crash()
        assert agent.register.identity == "second"

    tell(story, tmp_path / "agent.db")


def test_what_waits_while_the_disk_is_replaced_does_not_begin_on_the_old_one(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        world.gates["start"] = asyncio.Event()
        assert (await agent.register.command(command((3, 1, 1)), 0)).running
        waits = asyncio.create_task(agent.register.command(command((3, 2, 1), action="destroy"), 5))
        await asyncio.sleep(0)
        await agent.register.replace("second")
        await refused(UNREACHABLE, waits)
        assert agent.register.in_flight == 0
        assert (await agent.register.seal("vm-1", 1, 1)).order == NEVER

    tell(story, tmp_path / "agent.db")


def test_more_commands_than_the_limit_are_refused_before_anything_is_written() -> None:
    async def story(world: World, agent: Agent) -> None:
        gate = world.gates["start"] = asyncio.Event()
        assert (await agent.register.command(command((1, 1, 1)), 0)).running
        await refused(OVERLOADED, agent.register.command(command((1, 1, 1), resource="vm-2"), 0))
        assert (await agent.register.seal("vm-2", 1, 1)).state is None
        gate.set()

    tell(story, limit=1)


def test_many_commands_share_commits_in_the_writer_thread(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        answers = await asyncio.gather(
            *(agent.register.command(command((1, 1, 1), resource=f"vm-{i}"), 5) for i in range(300))
        )
        assert all(a.problem is None for a in answers)
        await agent.crash()
        assert (await agent.register.seal("vm-299", 1, 1)).state is CommandState.DONE

    tell(story, tmp_path / "agent.db", inline=False, limit=300)


def test_a_second_process_cannot_open_the_file(tmp_path: Path) -> None:
    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((1, 1, 1)), 1)
        with pytest.raises(ApiError) as caught:
            AgentFile(tmp_path / "agent.db", schema=SCHEMA)
        assert caught.value.code == UNAVAILABLE.id

    tell(story, tmp_path / "agent.db")


@pytest.mark.parametrize("inline", [True, False])
def test_a_write_that_fails_leaves_the_command_unknown_and_is_settled_later(
    tmp_path: Path, inline: bool
) -> None:
    async def story(world: World, agent: Agent) -> None:
        gate = world.gates["start"] = asyncio.Event()
        sending = asyncio.create_task(agent.register.command(command((1, 1, 1)), 5))
        await world.entered.wait()
        agent.file.rows("PRAGMA query_only=ON")
        gate.set()
        await refused(UNAVAILABLE, sending)
        agent.file.rows("PRAGMA query_only=OFF")
        assert (await agent.register.command(command((1, 1, 1)), 5)).result == {"did": "vm-1(1, 1, 1)start"}
        assert world.effects.total() == 1

    tell(story, tmp_path / "agent.db", inline=inline)


def test_the_file_survives_being_copied_without_its_process(tmp_path: Path) -> None:
    """What is in the files after a reply is all a killed process leaves."""

    async def story(world: World, agent: Agent) -> None:
        await agent.register.command(command((1, 1, 1)), 1)
        for name in ("agent.db", "agent.db-wal"):
            (tmp_path / f"copy-{name}").write_bytes((tmp_path / name).read_bytes())

    tell(story, tmp_path / "agent.db", inline=False)
    left = sqlite3.connect(tmp_path / "copy-agent.db")
    assert left.execute("SELECT state FROM command").fetchall() == [("DONE",)]
    left.close()
