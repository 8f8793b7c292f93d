"""Declaring a flow.

A flow is a tuple of steps over a typed, serialisable context. ``TxStep`` does SQL: the leading ones share the commit
that claims the job, the trailing ones the commit that ends it. ``Step`` has one effect outside: a host command, child
jobs, a call. The failed step is undone too, so every undo accepts half-done and not-done work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from mgmtnode.db.session import Tx
    from mgmtnode.workflow.handle import JobHandle

S = TypeVar("S")
C = TypeVar("C", bound="FlowContext")
R = TypeVar("R")


class FlowContext(msgspec.Struct, kw_only=True):
    """Base of flow contexts: mutable, JSON-serialisable. Every id and host is in it before the first host command."""


@dataclass(frozen=True, slots=True)
class TxStep(Generic[S, C]):
    """SQL only, inside the transaction that journals it: ``run(service, tx, context)``."""

    name: str
    run: Callable[[S, Tx, C], None]
    undo: Callable[[S, Tx, C], None] | None = None


@dataclass(frozen=True, slots=True)
class Step(Generic[S, C]):
    """One effect outside the database: ``await run(service, job, context)``; idempotent by the job's work token.

    A change it makes to the context survives a crash only with ``record=True``, which costs one commit.
    ``when`` false: neither run nor undone. ``owes`` false: an undo that fails for good leaves nothing a debt could
    settle, since the flow's SQL undo records what may be left as being there.
    """

    name: str
    run: Callable[[S, JobHandle, C], Awaitable[None]]
    undo: Callable[[S, JobHandle, C], Awaitable[None]] | None = None
    record: bool = False
    when: Callable[[C], bool] | None = None
    owes: bool = True


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the sealed registers of a resource say: the highest order taken, and whether that command ended how.

    ``step`` is the step number in that order; ``state`` is STARTED, DONE or FAILED.
    """

    run_no: int
    step: int
    state: str


@dataclass(frozen=True, slots=True)
class Flow(Generic[S, C, R]):
    """``result`` builds the reply in the transaction that ends the job. ``version`` is raised when steps are added,
    taken away or change their meaning; ``earlier`` are the versions of releases before that this one still goes on
    with, on the same context. A node runs only versions it knows.

    ``hosts`` names the hosts that may hold something of the resource; ``seal(service, context, fence)`` seals their
    registers when another owner takes the flow over and returns the highest order found, or None where no host ever
    heard of it. A flow without host commands has neither; its steps are simply run again.
    """

    name: str
    steps: tuple[Step[S, C] | TxStep[S, C], ...]
    result: Callable[[S, Tx, C], R]
    version: int = 1
    hosts: Callable[[C], list[str]] | None = None
    seal: Callable[[S, C, int], Awaitable[Sealed | None]] | None = None
    earlier: tuple[Flow[S, C, R], ...] = ()

    def of(self, name: str, version: int) -> Flow[S, C, R] | None:
        """The one among this and the earlier ones that a journal names."""
        return next(
            (flow for flow in (self, *self.earlier) if (flow.name, flow.version) == (name, version)), None
        )


AnyFlow = Flow[Any, Any, Any]
