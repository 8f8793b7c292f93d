"""Many schedules, on several cores, and what they came to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

from msgspec.structs import replace

from mgmtnode.testing.simulation.faults import Fault
from mgmtnode.testing.simulation.shrink import shrink
from tests.simulation.mutants import MUTANTS
from tests.simulation.running import Outcome, run
from tests.simulation.schedule import Ask, Schedule, draw

FIRST_CALL = 0  # a seed run once before the clock starts: the site is made with it


@dataclass
class Figures:
    """``failed``: what was wrong, by seed. ``cpu``: seconds of processor time of the schedules."""

    schedules: int = 0
    failed: dict[int, list[str]] = field(default_factory=dict)
    jobs: int = 0
    deeds: int = 0
    virtual: float = 0.0
    cpu: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    takeovers: list[float] = field(default_factory=list)

    def add(self, outcome: Outcome, cpu: float) -> None:
        self.schedules += 1
        self.jobs += outcome.jobs
        self.deeds += outcome.deeds
        self.virtual += outcome.seconds
        self.cpu += cpu
        self.takeovers += outcome.takeovers
        for fault in outcome.schedule.faults:
            self.faults[f"{fault.kind} {fault.what}".strip()] += 1
        if outcome.wrong:
            self.failed[outcome.schedule.seed] = outcome.wrong

    def takeover(self, share: float) -> float:
        """Within how many seconds this share of the slots of dead nodes had another owner."""
        return sorted(self.takeovers)[int(share * (len(self.takeovers) - 1))] if self.takeovers else 0.0


def campaign(seeds: Iterable[int], *, nodes: int = 0, processes: int = 1) -> Iterator[tuple[Outcome, float]]:
    """Each outcome, in the order of the seeds, and the processor time it took."""
    work = partial(_timed, nodes=nodes)
    if processes == 1:
        run(draw(FIRST_CALL, nodes))
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, seeds, chunksize=10)


def caught(mutant: str, seeds: Iterable[int], *, enough: int = 1, nodes: int = 0) -> tuple[list[int], str]:
    """The first seeds that show that a guard is off, and what the first of them says."""
    found: list[int] = []
    what = ""
    for seed in seeds:
        outcome = run(draw(seed, nodes), mutant, hasty=True)
        if outcome.wrong:
            found.append(seed)
            what = what or outcome.wrong[0]
            if len(found) >= enough:
                break
    return found, what


def small(schedule: Schedule, mutant: str = "") -> Schedule:
    """The same failure with as few faults and requests as will do, and these as plain as will do."""
    wanted = _kind(run(schedule, mutant, hasty=True))

    def fails(tried: Schedule) -> bool:
        return _kind(run(tried, mutant, hasty=True)) == wanted

    parts: list[Fault | Ask] = [*schedule.faults, *schedule.asks]
    left = _rebuilt(schedule, shrink(parts, lambda kept: fails(_rebuilt(schedule, kept))))
    again = True
    while again:
        plainer = next((tried for tried in _plainer(left) if fails(tried)), None)
        left, again = plainer or left, plainer is not None
    return left


def _rebuilt(schedule: Schedule, kept: Iterable[Fault | Ask]) -> Schedule:
    parts = list(kept)
    asks = [part for part in parts if isinstance(part, Ask)]
    return replace(schedule, asks=asks, faults=[part for part in parts if isinstance(part, Fault)])


def _plainer(schedule: Schedule) -> Iterator[Schedule]:
    """With one of its requests asked more plainly."""
    plain = {"how": "", "twice": False, "hasty": False, "cancel": 0.0, "deadline": 0.0}
    for index, ask in enumerate(schedule.asks):
        for name, value in plain.items():
            if getattr(ask, name) != value:
                asks = list(schedule.asks)
                asks[index] = replace(ask, **{name: value})
                yield replace(schedule, asks=asks)


def mutants() -> list[str]:
    return list(MUTANTS)


def _kind(outcome: Outcome) -> str:
    """The invariant that was broken first."""
    return outcome.wrong[0].split()[0] if outcome.wrong else ""


def _timed(seed: int, nodes: int) -> tuple[Outcome, float]:
    began = time.process_time()
    outcome = run(draw(seed, nodes))
    return outcome, time.process_time() - began
