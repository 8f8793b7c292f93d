"""What the parts of a node tell operators with: metrics always, spans where traces are on, lines at DEBUG."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import Protocol

import msgspec

from mgmtnode.bus.context import CallContext, current
from mgmtnode.errors import ApiError
from mgmtnode.ports import Clock, SystemClock
from mgmtnode.telemetry.families import Histogram
from mgmtnode.telemetry.metrics import Metrics

OK, CANCELLED, ERROR = "ok", "cancelled", "error"
GOOD = (OK, "succeeded")  # outcomes of work that did what it was to do
ROOT = "root"  # in place of a span: whatever is recorded next is the first of its trace

Ended = Callable[[float, tuple[str, ...]], None]


class Span(Protocol):
    """One that is being recorded. ``id``: 16 hex digits."""

    id: str

    def describe(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, outcome: str, error: BaseException | None) -> None: ...


class Tracer(Protocol):
    """Records spans and sends them away."""

    def start(self, name: str, kind: str, context: CallContext, ago: float) -> Span:
        """A child of ``context.span``, or the first span of ``context.trace``, that began ``ago`` seconds before now.
        ``kind``: server, client or internal."""
        ...

    def begins(self, trace: str) -> bool:
        """Whether a trace that begins here is recorded."""
        ...

    async def stop(self) -> None:
        """Sends what waits, within a few seconds."""
        ...


class Telemetry:
    """One a node. Its parts make their operations from it, once."""

    def __init__(self, clock: Clock | None = None, tracer: Tracer | None = None) -> None:
        self.metrics = Metrics()
        self.tracer = tracer
        self.now = (clock or SystemClock()).monotonic

    def operation(
        self,
        name: str,
        labels: tuple[str, ...],
        *,
        family: Histogram | None = None,
        logger: logging.Logger | None = None,
        kind: str = "internal",
    ) -> Operation:
        """``family`` must have these labels and ``outcome``. ``kind`` is that of the spans."""
        observe = None
        if family is not None:
            assert family.labels == (*labels, "outcome"), family.name
            observe = self.metrics.observer(family)
        return Operation(self, name, labels, observe, logger or logging.getLogger(__name__), kind)

    async def stop(self) -> None:
        if self.tracer is not None:
            await self.tracer.stop()

    def first_span(self, trace: str) -> str:
        """What ``CallContext.span`` is for a trace that begins here."""
        return ROOT if self.tracer is not None and self.tracer.begins(trace) else ""


class Operation:
    """One kind of work::

        with self._calls("vm.StartVm", "remote"):
            ...

    is observed in the family with how it ended, and is a span. The outcome is ``ok``, the category of the ApiError
    that came out, ``cancelled`` or ``error``."""

    __slots__ = ("_log", "_observe", "kind", "labels", "name", "now", "telemetry")

    def __init__(
        self,
        telemetry: Telemetry,
        name: str,
        labels: tuple[str, ...],
        observe: Ended | None,
        logger: logging.Logger,
        kind: str,
    ) -> None:
        self.name, self.labels, self.kind, self.now = name, labels, kind, telemetry.now
        self.telemetry, self._observe, self._log = telemetry, observe, logger

    def __call__(self, *labels: str) -> Timing:
        return Timing(self, labels)

    def describe(self, span: Span, labels: tuple[str, ...]) -> None:
        name = f"{self.name} {labels[0]}" if self.name else " ".join(labels[:2])
        span.describe(name, dict(zip(self.labels, labels, strict=False)))

    def ended(self, labels: tuple[str, ...], outcome: str, seconds: float) -> None:
        if self._observe is not None:
            self._observe(seconds, labels + (outcome,))  # noqa: RUF005  # a third cheaper, in each local call
        if self._log.isEnabledFor(logging.DEBUG):
            what = f"{self.name} {' '.join(labels)}".strip()
            self._log.debug("%s: %s in %.1f ms", what, outcome, seconds * 1000)


class Timing:
    """One time it was done. Enter it once. ``labels`` and ``outcome`` may be set until its end, where they are known
    late; ``span`` is None where none is recorded."""

    __slots__ = ("_began", "_operation", "_reset", "labels", "outcome", "span")

    def __init__(self, operation: Operation, labels: tuple[str, ...]) -> None:
        self._operation, self.labels = operation, labels
        self.outcome = ""
        self._began = 0.0
        self.span: Span | None = None
        self._reset: Token[CallContext]

    def since(self, began: float) -> Timing:
        """Counts from a moment before, on the clock of ``Telemetry.now``."""
        self._began = began
        return self

    def __enter__(self) -> Timing:
        operation = self._operation
        self._began = self._began or operation.now()
        if operation.telemetry.tracer is not None:
            self._open(operation.telemetry.tracer)
        return self

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return self._operation.now() - self._began

    def _open(self, tracer: Tracer) -> None:
        context = current.get()
        if context.span:
            self.span = tracer.start(self._operation.name, self._operation.kind, context, self.seconds)
            self._reset = current.set(msgspec.structs.replace(context, span=self.span.id))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        operation = self._operation
        outcome = self.outcome or (OK if error is None else outcome_of(error))
        if self.span is not None:
            current.reset(self._reset)
            operation.describe(self.span, self.labels)
            self.span.end(outcome, error)
        operation.ended(self.labels, outcome, operation.now() - self._began)


def outcome_of(error: BaseException) -> str:
    """A word of a closed set."""
    if isinstance(error, ApiError):
        return error.category.lower()
    return CANCELLED if isinstance(error, asyncio.CancelledError) else ERROR
