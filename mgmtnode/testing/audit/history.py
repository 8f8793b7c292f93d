"""What simulated hosts were told and did: commands on one resource in order, one at a time, under growing fences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

Order = tuple[int, int, int]
NEVER: Order = (0, 0, 0)


class Line(msgspec.Struct):
    """As ``python -m services.simulator --history`` writes it."""

    outcome: str
    monotonic: float = 0.0
    host: str = ""
    resource: str = ""
    fence: int = 0
    order: Order = NEVER
    action: str = ""


def read(path: Path) -> list[Line]:
    """A last line without its end is left out: the process died in it."""
    if not path.exists():
        return []
    decode = msgspec.json.Decoder(Line).decode
    return [decode(line) for line in path.read_bytes().split(b"\n")[:-1] if line]


@dataclass
class _Register:
    """What is known of one resource on one host. ``open``: the order that was begun and has no end yet; ``cut``: the
    one that was open when the host's process died, and may be done again if it had no effect."""

    fence: int = 0
    order: Order = NEVER
    open: Order | None = None
    cut: Order | None = None


def findings(lines: Iterable[Line]) -> Iterator[str]:
    registers: dict[tuple[str, str], _Register] = {}
    for line in lines:
        if line.outcome == "booted":
            for register in registers.values():
                register.cut, register.open = register.open or register.cut, None
        elif line.outcome in ("started", "done", "failed", "sealed"):
            yield from _follow(registers.setdefault((line.host, line.resource), _Register()), line)


def _follow(register: _Register, line: Line) -> Iterator[str]:
    what = f"{line.action or line.outcome} {line.order} of {line.resource} on {line.host}"
    if line.fence < register.fence:
        yield f"I3: {what} went on under fence {line.fence}, after {register.fence}"
    register.fence = max(register.fence, line.fence)
    if line.outcome == "started":
        if line.order <= register.order and line.order != register.cut:
            yield f"I3: {what} was begun after {register.order}"
        if register.open is not None:
            yield f"I3: {what} was begun while {register.open} was not over"
        register.order = register.open = line.order
        register.cut = None
    elif line.outcome in ("done", "failed") and register.open == line.order:
        register.open = None
