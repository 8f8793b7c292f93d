"""W3C trace context (https://www.w3.org/TR/trace-context/): what a caller says its request belongs to."""

from __future__ import annotations

import re
from typing import NamedTuple

from mgmtnode.bus.context import current

HEADER = "traceparent"
TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
TRACE = re.compile(r"[0-9a-f]{16}(?!0{16})[0-9a-f]{16}")
FORBIDDEN_VERSION = "ff"
SAMPLED = 0x01


class Parent(NamedTuple):
    """``sampled``: the caller records spans, and asks us to."""

    trace: str
    span: str
    sampled: bool


def parse(header: str) -> Parent | None:
    """None for what is not valid: the trace begins here then. Versions to come may say more behind the flags."""
    found = TRACEPARENT.fullmatch(header.strip())
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if (
        version == FORBIDDEN_VERSION
        or (more and version == "00")
        or not (trace.strip("0") and span.strip("0"))
    ):
        return None
    return Parent(trace, span, bool(int(flags, 16) & SAMPLED))


def outgoing() -> str:
    """What to send with a request to another program on behalf of the work at hand; empty without a trace. Where no
    span is recorded there is none to name, and a part of the trace's own id stands in for it."""
    context = current.get()
    if not TRACE.fullmatch(context.trace):
        return ""
    return header(context.trace, context.span or context.trace[16:], sampled=bool(context.span))


def header(trace: str, span: str, *, sampled: bool) -> str:
    """The value of ``traceparent``. ``trace`` and ``span`` are 32 and 16 hex digits."""
    return f"00-{trace}-{span}-{'01' if sampled else '00'}"
