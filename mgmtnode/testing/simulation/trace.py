"""What happened in a schedule, line by line: the same seed gives the same trace, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256


class Trace:
    """``now``: virtual seconds since the schedule began."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.lines: list[str] = []

    def __call__(self, who: str, what: str) -> None:
        self.lines.append(f"{self._now():10.4f} {who:<10} {what}")

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def digest(self) -> str:
        return sha256(self.text().encode()).hexdigest()
