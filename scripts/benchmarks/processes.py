"""What processes have used, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process and of all below it, those that have ended included."""
    seconds = _times(pid, 11, 12, 13, 14)
    for child in _children(pid):
        seconds += cpu_of(child)
    return seconds


def _times(pid: int, *fields: int) -> float:
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # it has just ended, and its parent has counted it
    return sum(int(found[field]) for field in fields) / TICKS


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    """All below a process that live now."""
    return [each for child in _children(pid) for each in (child, *descendants(child))]
