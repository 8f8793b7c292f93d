"""What groups of processes use while something is done: CPU seconds and peak memory, from /proc."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scripts.benchmarks.processes import cpu_of, descendants

Pids = Callable[[], Iterable[int]]


class Used:
    """``wall`` seconds; ``cpu`` seconds and ``peak`` MiB of memory by group, complete once the block has ended."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu: dict[str, float] = {}
        self.peak: dict[str, float] = {}


class Meter:
    """``groups``: name → the pids of its top processes; all below them count. Memory is only asked of those in
    ``memory``: processes that share pages, as PostgreSQL's do, cannot be added up."""

    def __init__(self, groups: Mapping[str, Pids], memory: Iterable[str] = ()) -> None:
        self._groups, self._memory = dict(groups), tuple(memory)

    @contextmanager
    def measure(self) -> Iterator[Used]:
        used = Used()
        for pid in self._with_memory():
            _forget_peak(pid)
        before, begin = self.cpu(), time.perf_counter()
        yield used
        used.wall = time.perf_counter() - begin
        used.cpu = {name: value - before[name] for name, value in self.cpu().items()}
        used.peak = {name: sum(map(_peak, _all(self._groups[name]()))) for name in self._memory}

    def cpu(self) -> dict[str, float]:
        return {name: sum(map(cpu_of, pids())) for name, pids in self._groups.items()}

    def _with_memory(self) -> Iterator[int]:
        for name in self._memory:
            yield from _all(self._groups[name]())


def rss(pid: int) -> float:
    """MiB of memory now."""
    return _status(pid, "VmRSS")


def _all(pids: Iterable[int]) -> list[int]:
    return [each for pid in pids for each in (pid, *descendants(pid))]


def _peak(pid: int) -> float:
    return _status(pid, "VmHWM")


def _forget_peak(pid: int) -> None:
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        return  # it has just ended


def _status(pid: int, field: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0) / 1024
