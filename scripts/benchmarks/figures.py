"""What a scenario found: figures with all their runs, claims about them, and the machine; as JSON."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mgmtnode import __version__

OURS = "mgmtnode"


class Figure(msgspec.Struct):
    """One thing that was measured in a case: ``runs`` of one of those compared (``who``), in ``unit``."""

    case: str
    who: str
    what: str
    unit: str
    runs: list[float]
    counted: bool = False
    """Whether it was counted and not timed: it does not depend on the machine."""

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def low(self) -> float:
        return min(self.runs)

    @property
    def high(self) -> float:
        return max(self.runs)

    @property
    def spread(self) -> float:
        """Half of the range of the runs, as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def key(self) -> tuple[str, str, str]:
        return self.case, self.who, self.what


class Claim(msgspec.Struct):
    """A target: ``value`` is to be at least, or else at most, ``bound``."""

    text: str
    value: float
    unit: str
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def verdict(self) -> str:
        return "ok" if self.holds else "missed"


class Machine(msgspec.Struct):
    processor: str
    cpus: int
    memory_gib: float
    system: str
    python: str
    sqlite: str
    load: float


class Section(msgspec.Struct):
    """One scenario as it was run once. ``at``: when, UTC. ``settings``: by who was compared, how it was set.
    ``load`` of the machine is that before the first measurement."""

    name: str
    title: str
    about: str
    at: str
    version: str
    quick: bool
    rounds: int
    machine: Machine
    figures: list[Figure] = []
    claims: list[Claim] = []
    settings: dict[str, str] = {}
    notes: list[str] = []
    only: str = ""
    """Words that the name of a case had to have in it; empty: all were run."""

    def find(self, case: str, what: str, who: str = OURS) -> Figure | None:
        return next((figure for figure in self.figures if figure.key == (case, who, what)), None)

    @property
    def missed(self) -> list[Claim]:
        return [claim for claim in self.claims if not claim.holds]


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


def merged(old: Section, new: Section) -> Section:
    """A run of some cases, put into an older one of all."""
    measured = {figure.key for figure in new.figures}
    claimed = {claim.text for claim in new.claims}
    note = f"cases with “{new.only}” were measured on {new.at[:10]}, with a load of {new.machine.load} before"
    return msgspec.structs.replace(
        old,
        figures=[figure for figure in old.figures if figure.key not in measured] + new.figures,
        claims=[claim for claim in old.claims if claim.text not in claimed] + new.claims,
        settings=old.settings | new.settings,
        notes=[*(each for each in old.notes if f"“{new.only}”" not in each), *new.notes, note],
    )


def new_section(name: str, title: str, about: str, *, quick: bool, rounds: int, only: str = "") -> Section:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    about = " ".join(about.split())
    return Section(name, title, about, at, __version__, quick, rounds, this_machine(), only=only)


def rounded(values: Iterable[float]) -> list[float]:
    """To what can be told apart."""
    return [float(f"{value:.5g}") for value in values]


def write(path: Path, sections: Sequence[Section]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(sections), indent=2) + b"\n")


def read(path: Path) -> list[Section]:
    return msgspec.json.decode(path.read_bytes(), type=list[Section])
