"""What travels down a call tree: the deadline, the chain of serial keys held, the trace, the work token."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from mgmtnode.jobs.job import WorkToken


@dataclass(slots=True)
class Asked:
    """How a client wants an ApiCall done: under which idempotency key, or as a dry run. ``replayed`` is set by what
    answers it again (``mgmtnode.jobs.once``)."""

    key: str | None = None
    dry_run: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class CallContext:
    """``deadline`` is on the monotonic clock of this node (on the wire it is remaining milliseconds).
    ``chain`` lists the serial keys held up the tree, so that waiting for one of them again is refused instead
    of hanging. ``asked`` is about an ApiCall, for its handler alone."""

    deadline: float | None = None
    chain: tuple[str, ...] = ()
    trace: str = ""
    work: WorkToken | None = None
    asked: Asked | None = None


EMPTY = CallContext()
current: ContextVar[CallContext] = ContextVar("mgmtnode_call", default=EMPTY)


@dataclass(slots=True)
class Held:
    """Serial keys held right now by somebody, for introspection."""

    keys: dict[str, int] = field(default_factory=dict)
