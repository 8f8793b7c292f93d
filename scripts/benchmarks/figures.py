"""Figures, their targets, and the machine they were measured on: as a table, as JSON, as Markdown."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mgmtnode import __version__


class Figure(msgspec.Struct, omit_defaults=True):
    """One measured value. ``target``: what it must stay below, None where it is only told. ``runs``: what it
    is the median of."""

    name: str
    value: float
    unit: str
    target: float | None = None
    runs: list[float] = []

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "ok" if self.value < self.target else "missed"


class Machine(msgspec.Struct):
    processor: str
    cpus: int
    memory_gib: float
    system: str
    python: str
    sqlite: str
    load: float


class Report(msgspec.Struct):
    """``at``: when, UTC. ``load`` of the machine is that before the first measurement."""

    suite: str
    at: str
    version: str
    quick: bool
    machine: Machine
    figures: list[Figure]

    @property
    def missed(self) -> list[Figure]:
        return [figure for figure in self.figures if figure.verdict == "missed"]


def new_report(suite: str, *, quick: bool) -> Report:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(suite=suite, at=at, version=__version__, quick=quick, machine=this_machine(), figures=[])


def this_machine() -> Machine:
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown"
    )
    return Machine(
        processor=model,
        cpus=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        load=round(os.getloadavg()[0], 2),
    )


def median(name: str, unit: str, runs: Sequence[float], target: float | None = None) -> Figure:
    return Figure(name, _rounded(statistics.median(runs)), unit, target, [_rounded(run) for run in runs])


def table(figures: Sequence[Figure]) -> str:
    width = max((len(figure.name) for figure in figures), default=0)
    return "\n".join(
        f"{f.name:{width}}  {_text(f.value):>10} {f.unit:12} {_target(f):>14}  {f.verdict}".rstrip()
        for f in figures
    )


def markdown(report: Report) -> str:
    """The page that the documentation shows."""
    m = report.machine
    rows = "\n".join(
        f"| {f.name} | {_text(f.value)} {f.unit} | {_target(f)} | {f.verdict} |" for f in report.figures
    )
    return f"""# Performance

What `scripts/bench {report.suite} --write-docs` measured on {report.at[:10]}: the embedded default (one
process, SQLite with `synchronous=FULL`, simulated hosts), with the load generator in a process of its own on the same
machine. Values of several runs are medians. CPU and memory are the node's.

Machine: {m.processor}, {m.cpus} CPUs, {m.memory_gib} GiB, {m.system}, Python {m.python}, SQLite {m.sqlite};
load {m.load} before the first measurement.

| figure | measured | target | |
|---|---|---|---|
{rows}
"""


def _target(figure: Figure) -> str:
    return "" if figure.target is None else f"< {_text(figure.target)} {figure.unit}"


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:,.4g}"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
