"""Sending a host command on behalf of the job at hand."""

from __future__ import annotations

import asyncio
from typing import Any

from mgmtnode.agents.port import UNREACHABLE, Agents, Command
from mgmtnode.bus.context import current
from mgmtnode.errors import INTERNAL, OVERLOADED, ApiError

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
AGAIN = (UNREACHABLE.id, OVERLOADED.id)


async def order(agents: Agents, endpoint: str, action: str, args: dict[str, Any], *, timeout: float) -> Any:
    """Does ``action`` to the resource of the current job, under its fence and order; returns the host's
    result.

    A host that cannot be reached, or has too much to do, is tried again until ``timeout`` (seconds) is over:
    the claim on the resource is kept, and the order makes the repetition harmless. Raises the errors of
    ``Agents.command``.
    """
    command = _command(action, args)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause = FIRST_PAUSE
    while True:
        try:
            done = await agents.command(endpoint, command, timeout=deadline - loop.time())
        except ApiError as exc:
            if exc.code not in AGAIN or loop.time() + pause >= deadline:
                raise
        else:
            return done.result
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _command(action: str, args: dict[str, Any]) -> Command:
    work = current.get().work
    if work is None:
        raise INTERNAL.error(f"the host command {action!r} belongs to no job")
    return Command(resource=work.resource_uuid, fence=work.fence, order=work.order, action=action, args=args)
