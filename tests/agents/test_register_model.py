"""The register against a model, with the agent dying at every point of a command."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mgmtnode.agents.backend import Settled
from mgmtnode.agents.port import Answer, CommandState, Order, Sealed
from mgmtnode.errors import ApiError
from tests.agents.world import BROKEN, Agent, World, command

RESOURCES = ("vm-1", "vm-2")
ORDERS = [(run, step, attempt) for run in (1, 2, 3) for step in (1, 2) for attempt in (1, 2)]
POINTS = (
    "never",
    "before the effect",
    "after the effect",
    "before STARTED is kept",
    "before the outcome is kept",
)


class DyingWorld(World):
    """Stands still for ever at ``point``, so that the agent can be killed there."""

    def __init__(self) -> None:
        super().__init__()
        self.point, self.broken = "never", False

    async def perform(self, action: str, resource: str, args: dict[str, Any]) -> Any:
        self.entered.set()
        if self.point == "before the effect":
            await asyncio.Event().wait()
        if self.broken:
            raise BROKEN.error("told to")
        self.effects[args["id"]] += 1
        self.log.append(args["id"])
        if self.point == "after the effect":
            await asyncio.Event().wait()
        return {"did": args["id"]}


class RegisterMachine(RuleBasedStateMachine):
    """The model: per resource a fence, the last order, and its outcome (None while nobody knows)."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.world = DyingWorld()
        self.agent = self.run(self._open())
        self.fence = dict.fromkeys(RESOURCES, 0)
        self.order: dict[str, Order] = dict.fromkeys(RESOURCES, (0, 0, 0))
        self.outcome: dict[str, Answer | None] = dict.fromkeys(RESOURCES)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 5))

    async def _open(self) -> Agent:
        return Agent(Path(self.directory.name) / "agent.db", self.world)

    @rule(
        resource=st.sampled_from(RESOURCES),
        fence=st.integers(1, 4),
        order=st.sampled_from(ORDERS),
        broken=st.booleans(),
    )
    def send(self, resource: str, fence: int, order: Order, broken: bool) -> None:
        answer = self._sent(resource, fence, order, broken)
        if refusal := self._refusal(resource, fence, order):
            assert answer == refusal
            return
        self.fence[resource] = max(fence, self.fence[resource])
        known = self.outcome[resource] if order == self.order[resource] else None
        assert isinstance(answer, Answer)
        if known is not None:
            assert (answer.result, answer.problem) == (known.result, known.problem)
        self.order[resource], self.outcome[resource] = order, answer

    @rule(
        resource=st.sampled_from(RESOURCES),
        order=st.sampled_from(ORDERS),
        point=st.sampled_from(POINTS[1:]),
        broken=st.booleans(),
        resend=st.booleans(),
    )
    def send_and_die(self, resource: str, order: Order, point: str, broken: bool, resend: bool) -> None:
        """Then only the file knows how far it got; whoever asks first, sender or new owner, learns it."""
        fence = max(1, self.fence[resource])
        if self._refusal(resource, fence, order):
            return
        known = self.outcome[resource] if order == self.order[resource] else None
        self.world.point, self.world.broken = point, broken
        self.run(self._until(point, resource, fence, order))
        self.world.point = "never"
        self.run(self.agent.crash())
        self.fence[resource] = fence
        if known is None and resend:
            again = self._sent(resource, fence, order, broken)
            assert isinstance(again, Answer)
            self.order[resource], self.outcome[resource] = order, again
        elif known is None:
            self._learn(resource, self.run(self.agent.register.seal(resource, fence, 1)))

    @rule(resource=st.sampled_from(RESOURCES), fence=st.integers(1, 4))
    def seal(self, resource: str, fence: int) -> None:
        if fence < self.fence[resource]:
            assert self._attempt(self.agent.register.seal(resource, fence, 1)) == "agent.stale"
            return
        self.fence[resource] = fence
        sealed = self.run(self.agent.register.seal(resource, fence, 1))
        assert sealed.order == self.order[resource]
        known = self.outcome[resource]
        if known is not None:
            assert (sealed.result, sealed.problem) == (known.result, known.problem)
        self._learn(resource, sealed)

    @precondition(lambda self: any(self.fence.values()))
    @rule()
    def crash(self) -> None:
        self.run(self.agent.crash())

    @invariant()
    def every_order_has_at_most_one_effect(self) -> None:
        assert all(count == 1 for count in self.world.effects.values())

    @invariant()
    def effects_come_in_strictly_increasing_order(self) -> None:
        for resource in RESOURCES:
            mine = [name for name in self.world.log if name.startswith(resource)]
            assert mine == sorted(set(mine))

    def teardown(self) -> None:
        self.run(self.agent.register.stop())
        self.run(self.agent.file.close())
        self.loop.close()
        self.directory.cleanup()

    def _refusal(self, resource: str, fence: int, order: Order) -> str:
        if fence < self.fence[resource]:
            return "agent.stale"
        if order < self.order[resource]:
            return "agent.old"
        return ""

    def _sent(self, resource: str, fence: int, order: Order, broken: bool) -> Any:
        self.world.broken = broken
        return self._attempt(self.agent.register.command(command(order, fence=fence, resource=resource), 1))

    def _attempt(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self.run(work)
        except ApiError as exc:
            return exc.code

    async def _until(self, point: str, resource: str, fence: int, order: Order) -> None:
        """Lets a command go as far as ``point``, or to its end."""
        saves = self._hold_commits(point)
        sending = asyncio.ensure_future(
            self.agent.register.command(command(order, fence=fence, resource=resource), 60)
        )
        for _ in range(60):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait({sending})
        self.agent.file.hand_over = saves

    def _hold_commits(self, point: str) -> Any:
        real = self.agent.file.hand_over
        held = {"before STARTED is kept": 0, "before the outcome is kept": 1}.get(point)
        count = 0

        def hand_over(sql: str, *args: Any) -> Any:
            nonlocal count
            count += 1
            if held is not None and count > held:
                return asyncio.get_running_loop().create_future()
            return real(sql, *args)

        self.agent.file.hand_over = hand_over
        return real

    def _learn(self, resource: str, sealed: Sealed) -> None:
        self.order[resource] = max(self.order[resource], sealed.order)
        if sealed.state is CommandState.STARTED:
            assert not self.world.effects[command(sealed.order, resource=resource).args["id"]]
            self.outcome[resource] = None
        elif sealed.state is not None:
            self.outcome[resource] = Answer(result=sealed.result, problem=sealed.problem)


RegisterMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestRegisterAgainstTheModel = RegisterMachine.TestCase


def test_probing_is_what_keeps_an_effect_single_after_a_crash() -> None:
    """The machine above has teeth: a backend that denies every effect repeats it."""

    class Forgetful(DyingWorld):
        async def probe(self, action: str, resource: str, args: dict[str, Any]) -> Settled:
            return Settled(happened=False)

    async def story() -> int:
        with tempfile.TemporaryDirectory() as directory:
            world = Forgetful()
            agent = Agent(Path(directory) / "agent.db", world)
            world.point = "after the effect"
            sending = asyncio.create_task(agent.register.command(command((1, 1, 1)), 5))
            await world.entered.wait()
            await agent.crash()
            await asyncio.wait({sending})
            sending.exception()
            world.point = "never"
            await agent.register.command(command((1, 1, 1)), 5)
            await agent.file.close()
            return world.effects.total()

    assert asyncio.run(story()) == 2
