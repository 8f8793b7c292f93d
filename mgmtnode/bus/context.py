"""What travels down a call tree: the deadline, the chain of serial keys held, the trace, the work token."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import msgspec

from mgmtnode.jobs.job import WorkToken


@dataclass(slots=True)
class Asked:
    """How a client wants an ApiCall done: under which idempotency key, or as a dry run. ``replayed`` is set by what
    answers it again (``mgmtnode.jobs.once``)."""

    key: str | None = None
    dry_run: bool = False
    replayed: bool = False


class CallContext(msgspec.Struct, frozen=True):
    """``deadline`` is on the monotonic clock of this node (on the wire it is remaining milliseconds).
    ``chain`` lists the serial keys held up the tree, so that waiting for one of them again is refused instead
    of hanging. ``asked`` is about an ApiCall, for its handler alone. ``trace`` is the id that
    all work for one request has in common, on every node: 32 hex digits, as in W3C trace context. ``span`` is
    the span this is a part of, empty where nobody records spans. ``request`` is the id of the request as its
    client chose it, on the node that took it."""

    deadline: float | None = None
    chain: tuple[str, ...] = ()
    trace: str = ""
    work: WorkToken | None = None
    asked: Asked | None = None
    span: str = ""
    request: str = ""


EMPTY = CallContext()
current: ContextVar[CallContext] = ContextVar("mgmtnode_call", default=EMPTY)
