"""Keeps a node whose lease has run out from sending anything to a host: it waits until it knows better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mgmtnode.agents.port import AgentEndpoint, Agents, Command, CommandResult, Sealed
from mgmtnode.cluster.lease import Lease


class GatedAgents:
    """The Agents port behind the lease. Questions pass: they change nothing."""

    def __init__(self, agents: Agents, lease: Lease) -> None:
        self._agents, self._lease = agents, lease

    async def command(self, endpoint: str, command: Command, *, timeout: float) -> CommandResult:
        await self._lease.gate()
        return await self._agents.command(endpoint, command, timeout=timeout)

    async def seal(self, endpoint: str, resource: str, fence: int, *, timeout: float) -> Sealed:
        await self._lease.gate()
        return await self._agents.seal(endpoint, resource, fence, timeout=timeout)

    async def forget(self, endpoint: str, floor: int, resources: Sequence[str], *, timeout: float) -> int:
        await self._lease.gate()
        return await self._agents.forget(endpoint, floor, resources, timeout=timeout)

    async def ask(self, endpoint: str, question: str, body: dict[str, Any], *, timeout: float) -> Any:
        return await self._agents.ask(endpoint, question, body, timeout=timeout)

    def serve(self, scheme: str, find: Callable[[str], AgentEndpoint]) -> None:
        self._agents.serve(scheme, find)
