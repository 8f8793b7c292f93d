"""What the command register stands in front of: the hypervisor of one host."""

from __future__ import annotations

from typing import Any, Protocol

from mgmtnode.errors import Problem
from mgmtnode.schema import Data


class Settled(Data, frozen=True, kw_only=True):
    """What probing found out about a command whose end nobody saw. ``happened`` false: no effect, it may be
    done now. A ``problem`` says that it has failed or that its effect can neither be seen nor repeated."""

    happened: bool
    result: Any = None
    problem: Problem | None = None


ABSENT = Settled(happened=False)


class Backend(Protocol):
    """Results and args are JSON values. One command a resource runs at a time; those of different resources
    overlap."""

    async def perform(self, action: str, resource: str, args: dict[str, Any]) -> Any:
        """Does it, also when part of it is there already. Raises an ApiError to fail; it is then kept as the
        outcome."""
        ...

    async def probe(self, action: str, resource: str, args: dict[str, Any]) -> Settled:
        """Whether the effect of a command is there, after the agent died between its start and its end."""
        ...
