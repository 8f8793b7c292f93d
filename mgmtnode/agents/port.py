"""The Agents port: how a hypervisor driver on a management node talks to the agents on hosts.

Agents (client side)        what drivers call: until there is an outcome, or the deadline passes
AgentEndpoint (host side)   one agent: each reply within ``wait`` seconds, *running* when not done by then
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Protocol

from msgspec import field

from mgmtnode.errors import Category, ErrorCode, Problem
from mgmtnode.schema import Data

UNREACHABLE = ErrorCode("agent.unreachable", Category.UNAVAILABLE, "the agent of the host does not answer")
STALE = ErrorCode(
    "agent.stale", Category.STATE, "another node owns the resource now; this one was fenced off"
)
OLD = ErrorCode("agent.old", Category.STATE, "a later command on the resource was already started")
REUSED = ErrorCode("agent.reused", Category.INTERNAL, "two different commands carry the same order")
FAILED = ErrorCode(
    "agent.failed", Category.INTERNAL, "the host could not do it; the cause is what the host said"
)
TIMEOUT = ErrorCode("agent.timeout", Category.TIMEOUT, "the host was still at it when the deadline passed")
UNKNOWN = ErrorCode("agent.unknown", Category.INVALID, "the agent knows no such action or question")
FOREIGN = ErrorCode("agent.foreign", Category.INTERNAL, "what answers there is no host agent")

Order = tuple[int, int, int]
NEVER: Order = (0, 0, 0)


class CommandState(StrEnum):
    STARTED = "STARTED"
    DONE = "DONE"
    FAILED = "FAILED"


class Command(Data, frozen=True, kw_only=True):
    """One thing to do to one resource. ``order`` is (run_no, step, attempt) of the work it belongs to: a step
    sends at most one command a host. ``args`` are JSON values."""

    resource: str
    fence: int
    order: Order
    action: str
    args: dict[str, Any] = field(default_factory=dict)


class CommandResult(Data, frozen=True, kw_only=True):
    """A command that is done. ``replayed``: it had been done before, this is what was kept."""

    result: Any = None
    replayed: bool = False


class Answer(Data, frozen=True, kw_only=True):
    """What an agent says to a command within the reply deadline. ``running``: not done yet, send it again to
    wait on. ``problem``: it failed, and fails the same way however often it is sent."""

    running: bool = False
    result: Any = None
    problem: Problem | None = None
    replayed: bool = False


class Sealed(Data, frozen=True, kw_only=True):
    """The register of a resource after a seal: the last command accepted there, and how it ended.

    ``state`` None: there never was one. STARTED: it was begun by a process that died, and probing shows no
    effect; sending the same order again does it. ``running``: it still runs (only in an agent's single
    reply).
    """

    resource: str
    fence: int
    identity: str
    order: Order = NEVER
    state: CommandState | None = None
    action: str = ""
    result: Any = None
    problem: Problem | None = None
    running: bool = False

    def covers(self, order: Order) -> bool:
        """Whether work of ``order`` needs no sending any more: the register is past it, or at it and
        finished."""
        if order == self.order:
            return self.state in (CommandState.DONE, CommandState.FAILED)
        return order < self.order


class AgentEndpoint(Protocol):
    """One agent, as the transport sees it: in this process, or behind HTTP. Raises ``agent.stale``,
    ``agent.old``."""

    async def command(self, command: Command, wait: float) -> Answer: ...

    async def seal(self, resource: str, fence: int, wait: float) -> Sealed: ...

    async def forget(self, floor: int, registers: Mapping[str, int]) -> int: ...

    async def ask(self, question: str, body: dict[str, Any]) -> Any: ...


class Agents(Protocol):
    """The agents of all hosts. All timeouts are in seconds and end in ``agent.timeout``;
    ``agent.unreachable`` comes as soon as it is known and says nothing about whether the command was done."""

    async def command(self, endpoint: str, command: Command, *, timeout: float) -> CommandResult:
        """Has it done, waiting as long as it runs. Safe to repeat: an order is done once. Raises
        ``agent.failed`` with what the host said as its cause, ``agent.stale``, ``agent.old``, whose details say in
        ``behind`` the order (run_no, step, attempt) that came first: who takes over an undo goes on from there."""
        ...

    async def seal(self, endpoint: str, resource: str, fence: int, *, timeout: float) -> Sealed:
        """Refuses lower fences from now on, waits for a running command, and tells how the last one ended."""
        ...

    async def forget(self, endpoint: str, floor: int, registers: Mapping[str, int], *, timeout: float) -> int:
        """Drops ``registers`` (resource → fence) of resources that are no more, where all jobs on them that there
        ever were have a run_no below ``floor`` and have ended: what is older than that is refused for ever. One whose
        fence is another by now stays. Returns how many were dropped."""
        ...

    async def ask(self, endpoint: str, question: str, body: dict[str, Any], *, timeout: float) -> Any:
        """A plain read: connect, ping, facts, inventory. No order, no memory."""
        ...

    def serve(self, scheme: str, find: Callable[[str], AgentEndpoint]) -> None:
        """Answers endpoints ``scheme://…`` inside this process. ``find`` may raise ``agent.unreachable``. A
        scheme that is served already stays with whoever came first: nodes of one process share their
        simulated hosts."""
        ...
