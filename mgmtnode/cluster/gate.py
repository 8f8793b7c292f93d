"""Keeps a node whose lease has run out from sending anything to a host: it waits until it knows better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mgmtnode.agents.port import AgentEndpoint, Agents, Command, CommandResult, Sealed
from mgmtnode.bus.calls import NOT_HERE
from mgmtnode.cluster.lease import Lease
from mgmtnode.jobs.repository import Fenced


class GatedAgents:
    """The Agents port behind the lease. Questions pass: they change nothing.

    Raises ``bus.not-here`` after an eviction: the work may be another node's, which had this one, as owner of the
    host, send a command; it asks again, at the new owner of the host.
    """

    def __init__(self, agents: Agents, lease: Lease) -> None:
        self._agents, self._lease = agents, lease

    async def command(self, endpoint: str, command: Command, *, timeout: float) -> CommandResult:
        await self._gate()
        return await self._agents.command(endpoint, command, timeout=timeout)

    async def seal(self, endpoint: str, resource: str, fence: int, *, timeout: float) -> Sealed:
        await self._gate()
        return await self._agents.seal(endpoint, resource, fence, timeout=timeout)

    async def forget(self, endpoint: str, floor: int, registers: Mapping[str, int], *, timeout: float) -> int:
        await self._gate()
        return await self._agents.forget(endpoint, floor, registers, timeout=timeout)

    async def ask(self, endpoint: str, question: str, body: dict[str, Any], *, timeout: float) -> Any:
        return await self._agents.ask(endpoint, question, body, timeout=timeout)

    def serve(self, scheme: str, find: Callable[[str], AgentEndpoint]) -> None:
        self._agents.serve(scheme, find)

    async def _gate(self) -> None:
        try:
            await self._lease.gate()
        except Fenced:
            raise NOT_HERE.error("this node does not belong to the cluster any more") from None
