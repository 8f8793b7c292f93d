"""Agents whose requests are told of: how long each took, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from mgmtnode.agents.port import AgentEndpoint, Agents, Command, CommandResult, Sealed
from mgmtnode.telemetry.families import AGENT_SECONDS
from mgmtnode.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)


class WatchedAgents:
    """Passes everything on to ``inner``, whichever way that reaches the hosts."""

    def __init__(self, inner: Agents, telemetry: Telemetry) -> None:
        self._inner = inner
        self._asking = telemetry.operation(
            "agent", ("kind", "action"), family=AGENT_SECONDS, logger=log, kind="client"
        )

    async def command(self, endpoint: str, command: Command, *, timeout: float) -> CommandResult:
        with self._asking("command", command.action):
            return await self._inner.command(endpoint, command, timeout=timeout)

    async def seal(self, endpoint: str, resource: str, fence: int, *, timeout: float) -> Sealed:
        with self._asking("seal", "seal"):
            return await self._inner.seal(endpoint, resource, fence, timeout=timeout)

    async def forget(self, endpoint: str, floor: int, registers: Mapping[str, int], *, timeout: float) -> int:
        with self._asking("forget", "forget"):
            return await self._inner.forget(endpoint, floor, registers, timeout=timeout)

    async def ask(self, endpoint: str, question: str, body: dict[str, Any], *, timeout: float) -> Any:
        with self._asking("ask", question):
            return await self._inner.ask(endpoint, question, body, timeout=timeout)

    def serve(self, scheme: str, find: Callable[[str], AgentEndpoint]) -> None:
        self._inner.serve(scheme, find)
