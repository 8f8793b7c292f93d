"""The lines between management nodes and the agents on hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from mgmtnode.agents.port import UNREACHABLE, AgentEndpoint, Answer, Command, Sealed
from mgmtnode.errors import ApiError
from mgmtnode.testing.simulation.lines import Lines
from mgmtnode.testing.simulation.loop import VirtualLoop, current_node

T = TypeVar("T")
Attempt = Callable[[], Awaitable[Any]]

REFUSED = 2.0  # seconds until a client finds that nobody takes its connection
PATIENCE = 3.0  # seconds beyond the time an agent may take, until the client gives the answer up


class DistantAgent:
    """An agent as one node sees it. What reaches the agent is done there, whether or not anybody still waits."""

    def __init__(
        self, loop: VirtualLoop, lines: Lines, asker: str, name: str, agent: Callable[[], AgentEndpoint]
    ) -> None:
        self._loop, self._lines, self._name, self._agent = loop, lines, name, agent
        self._line = lines.line(asker, name)

    async def command(self, command: Command, wait: float) -> Answer:
        return await self._ask(lambda: self._agent().command(command, wait), wait)

    async def seal(self, resource: str, fence: int, wait: float) -> Sealed:
        return await self._ask(lambda: self._agent().seal(resource, fence, wait), wait)

    async def forget(self, floor: int, registers: Mapping[str, int]) -> int:
        return await self._ask(lambda: self._agent().forget(floor, registers), 0.0)

    async def ask(self, question: str, body: dict[str, Any]) -> Any:
        return await self._ask(lambda: self._agent().ask(question, body), 0.0)

    async def _ask(self, attempt: Callable[[], Awaitable[T]], wait: float) -> T:
        way = self._line.there()
        if way is None:
            await asyncio.sleep(REFUSED)
            raise UNREACHABLE.error(f"{self._name} does not answer")
        answer: asyncio.Future[T] = self._loop.create_future()
        at_host = self._loop.context_of(self._name)
        asker = self._loop.context_of(current_node.get())
        for copy in range(1 + self._line.twice()):
            late = way * (1 + copy) if copy else way
            self._lines.under_way += 1
            self._loop.call_later(late, self._arrive, attempt, answer, asker, context=at_host)
        timer = self._loop.call_later(wait + PATIENCE, self._give_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def _arrive(self, attempt: Attempt, answer: asyncio.Future[Any], asker: Any) -> None:
        self._lines.under_way -= 1
        self._loop.create_task(self._serve(attempt, answer, asker))

    async def _serve(self, attempt: Attempt, answer: asyncio.Future[Any], asker: Any) -> None:
        done: Any
        try:
            done, settle = await attempt(), answer.set_result
        except ApiError as error:
            done, settle = error, answer.set_exception
        way = self._line.back()
        if way is not None:
            self._loop.call_later(way, _deliver, answer, settle, done, context=asker)

    def _give_up(self, answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            answer.set_exception(UNREACHABLE.error(f"{self._name} has not answered in time"))


def _deliver(answer: asyncio.Future[Any], settle: Callable[[Any], None], done: Any) -> None:
    if not answer.done():
        settle(done)
