"""The client half: asking on while a command runs, deadlines, and commands on behalf of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mgmtnode.agents.commands import order
from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.port import FAILED, TIMEOUT, UNREACHABLE, Answer, CommandState, Sealed
from mgmtnode.bus.context import CallContext, current
from mgmtnode.errors import INTERNAL, ApiError
from mgmtnode.jobs.job import WorkToken
from tests.agents.world import BROKEN, Agent, World, command

WORK = WorkToken(
    job_uuid="job", resource_uuid="vm-1", account_uuid="acc", run_no=7, step=2, attempt=1, fence=3
)


class Endpoint:
    """An agent whose line breaks the next ``cuts`` times, after the command was done."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.cuts, self.sent = agent, 0, 0

    async def command(self, sent: Any, wait: float) -> Answer:
        self.sent += 1
        answer = await self.agent.register.command(sent, wait)
        if self.cuts:
            self.cuts -= 1
            raise UNREACHABLE.error("cut")
        return answer

    async def seal(self, resource: str, fence: int, wait: float) -> Sealed:
        self.sent += 1
        return await self.agent.register.seal(resource, fence, wait)

    async def forget(self, floor: int, registers: Any) -> int:
        return await self.agent.register.forget(floor, registers)

    async def ask(self, question: str, body: dict[str, Any]) -> Any:
        await asyncio.Event().wait()


class Scene:
    def __init__(self) -> None:
        self.world = World()
        self.agent = Agent(":memory:", self.world)
        self.endpoint = Endpoint(self.agent)
        self.agents = LocalAgents(reply_wait=0.01)
        self.agents.serve("test", lambda address: self.endpoint)


def tell(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def told() -> None:
        scene = Scene()
        try:
            await asyncio.wait_for(story(scene), 10)
        finally:
            await scene.agent.register.stop()
            await scene.agent.file.close()

    asyncio.run(told())


async def refused(attempt: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await attempt
    return caught.value


def test_a_command_longer_than_the_reply_deadline_is_asked_for_until_it_ends() -> None:
    async def story(scene: Scene) -> None:
        gate = scene.world.gates["start"] = asyncio.Event()
        running = asyncio.create_task(scene.agents.command("test://h", command((1, 1, 1)), timeout=5))
        while scene.endpoint.sent < 3:
            await asyncio.sleep(0.005)
        gate.set()
        assert (await running).result == {"did": "vm-1(1, 1, 1)start"}
        assert scene.world.effects.total() == 1

    tell(story)


def test_a_seal_longer_than_the_reply_deadline_is_asked_for_until_it_ends() -> None:
    async def story(scene: Scene) -> None:
        gate = scene.world.gates["start"] = asyncio.Event()
        await scene.agent.register.command(command((1, 1, 1)), 0)
        sealing = asyncio.create_task(scene.agents.seal("test://h", "vm-1", 2, timeout=5))
        while scene.endpoint.sent < 3:
            await asyncio.sleep(0.005)
        gate.set()
        assert (await sealing).state is CommandState.DONE

    tell(story)


def test_the_deadline_of_the_caller_ends_the_asking_and_not_the_command() -> None:
    async def story(scene: Scene) -> None:
        gate = scene.world.gates["start"] = asyncio.Event()
        error = await refused(scene.agents.command("test://h", command((1, 1, 1)), timeout=0.05))
        assert error.code == TIMEOUT.id
        assert (await refused(scene.agents.seal("test://h", "vm-1", 1, timeout=0.05))).code == TIMEOUT.id
        gate.set()
        await scene.agents.command("test://h", command((1, 1, 1)), timeout=5)
        assert scene.world.effects.total() == 1

    tell(story)


def test_a_question_without_answer_ends_at_its_deadline() -> None:
    async def story(scene: Scene) -> None:
        assert (await refused(scene.agents.ask("test://h", "ping", {}, timeout=0.02))).code == TIMEOUT.id

    tell(story)


def test_a_failure_carries_what_the_host_said_as_its_cause() -> None:
    async def story(scene: Scene) -> None:
        scene.world.failing.add("start")
        error = await refused(scene.agents.command("test://h", command((1, 1, 1)), timeout=5))
        assert error.code == FAILED.id
        assert error.problem.cause is not None
        assert error.problem.cause.code == BROKEN.id

    tell(story)


def test_an_endpoint_nobody_serves_is_unreachable() -> None:
    async def story(scene: Scene) -> None:
        error = await refused(scene.agents.command("https://h", command((1, 1, 1)), timeout=5))
        assert error.code == UNREACHABLE.id

    tell(story)


def test_the_first_to_serve_a_scheme_keeps_it() -> None:
    async def story(scene: Scene) -> None:
        other = Endpoint(scene.agent)
        scene.agents.serve("test", lambda address: other)
        await scene.agents.command("test://h", command((1, 1, 1)), timeout=5)
        assert (scene.endpoint.sent, other.sent) == (1, 0)

    tell(story)


def test_work_for_a_job_carries_its_resource_fence_and_order() -> None:
    async def story(scene: Scene) -> None:
        current.set(CallContext(work=WORK))
        result = await order(scene.agents, "test://h", "start", {"id": "x"}, timeout=5)
        sealed = await scene.agents.seal("test://h", "vm-1", 3, timeout=5)
        assert result == {"did": "x"}
        assert (sealed.order, sealed.fence, sealed.state) == ((7, 2, 1), 3, CommandState.DONE)

    tell(story)


def test_work_whose_reply_is_lost_is_sent_again_and_done_once() -> None:
    async def story(scene: Scene) -> None:
        current.set(CallContext(work=WORK))
        scene.endpoint.cuts = 1
        assert await order(scene.agents, "test://h", "start", {"id": "x"}, timeout=5) == {"did": "x"}
        assert scene.world.effects == {"x": 1}

    tell(story)


def test_a_command_outside_a_job_is_refused() -> None:
    async def story(scene: Scene) -> None:
        error = await refused(order(scene.agents, "test://h", "start", {}, timeout=5))
        assert error.code == INTERNAL.id

    tell(story)
