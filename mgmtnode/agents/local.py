"""The client half that any transport to agents shares, and the agents inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mgmtnode.agents.port import (
    FAILED,
    TIMEOUT,
    UNREACHABLE,
    AgentEndpoint,
    Command,
    CommandResult,
    Sealed,
)
from mgmtnode.errors import ApiError

REPLY_WAIT = 10.0


class LocalAgents:
    """Finds the agent of an endpoint by its scheme and asks on while a command runs.

    ``reply_wait`` (seconds) is how long one reply may take before the agent says *still running*.
    """

    def __init__(self, *, reply_wait: float = REPLY_WAIT) -> None:
        self._schemes: dict[str, Callable[[str], AgentEndpoint]] = {}
        self._reply_wait = reply_wait

    def serve(self, scheme: str, find: Callable[[str], AgentEndpoint]) -> None:
        self._schemes.setdefault(scheme, find)

    async def command(self, endpoint: str, command: Command, *, timeout: float) -> CommandResult:
        async with _deadline(timeout, f"{command.action} of {command.resource} on {endpoint}") as deadline:
            agent = self._find(endpoint)
            answer = await agent.command(command, self._wait(deadline))
            while answer.running:
                answer = await agent.command(command, self._wait(deadline))
        if answer.problem is not None:
            raise FAILED.error(
                answer.problem.message,
                resource=command.resource,
                cause=ApiError(answer.problem),
                endpoint=endpoint,
            )
        return CommandResult(result=answer.result, replayed=answer.replayed)

    async def seal(self, endpoint: str, resource: str, fence: int, *, timeout: float) -> Sealed:
        async with _deadline(timeout, f"sealing {resource} on {endpoint}") as deadline:
            agent = self._find(endpoint)
            sealed = await agent.seal(resource, fence, self._wait(deadline))
            while sealed.running:
                sealed = await agent.seal(resource, fence, self._wait(deadline))
        return sealed

    async def forget(self, endpoint: str, floor: int, registers: Mapping[str, int], *, timeout: float) -> int:
        async with _deadline(timeout, f"forgetting deleted resources on {endpoint}"):
            return await self._find(endpoint).forget(floor, registers)

    async def ask(self, endpoint: str, question: str, body: dict[str, Any], *, timeout: float) -> Any:
        async with _deadline(timeout, f"{question} on {endpoint}"):
            return await self._find(endpoint).ask(question, body)

    def _find(self, endpoint: str) -> AgentEndpoint:
        scheme = endpoint.partition("://")[0]
        if scheme not in self._schemes:
            raise UNREACHABLE.error(f"nothing serves {scheme}:// here, so {endpoint} cannot be reached")
        return self._schemes[scheme](endpoint)

    def _wait(self, deadline: float) -> float:
        return max(0.0, min(self._reply_wait, deadline - asyncio.get_running_loop().time()))


@asynccontextmanager
async def _deadline(timeout: float, what: str) -> AsyncIterator[float]:
    """The end of ``timeout`` on the loop's clock; what is still awaited then ends as ``agent.timeout``."""
    deadline = asyncio.get_running_loop().time() + timeout
    try:
        async with asyncio.timeout_at(deadline):
            yield deadline
    except TimeoutError as exc:
        raise TIMEOUT.error(f"no outcome of {what} after {timeout:g} s") from exc
