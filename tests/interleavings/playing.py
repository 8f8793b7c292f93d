"""Running a scenario through its orders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.errors import ApiError, Category
from tests.interleavings import audit
from tests.interleavings.mutants import MUTANTS, mutated
from tests.interleavings.operations import act
from tests.interleavings.orders import Count, Explorer, Order
from tests.interleavings.scenarios import SCENARIOS, Scenario
from tests.interleavings.scene import Scene, StillClock, Tables, small_ring
from tests.interleavings.stage import Stage


@dataclass
class Fault:
    """An order in which something was wrong."""

    wrong: list[str]
    order: Order

    def __str__(self) -> str:
        steps = "\n".join(f"  {who}: {' '.join(what.split())[:150]}" for who, what in self.order.steps)
        answers = "\n".join(f"  {who} was answered {said!r}" for who, said in enumerate(self.order.outcomes))
        return "\n".join([*self.wrong, steps, answers])


@dataclass
class Result:
    """``seconds``: of real time."""

    count: Count = field(default_factory=Count)
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0

    def __add__(self, other: Result) -> Result:
        seconds = self.seconds + other.seconds
        return Result(self.count + other.count, [*self.faults, *other.faults], seconds)


class Theatre:
    """One database, and all that is needed to run scenarios on it, one after the other."""

    def __init__(self, url: str) -> None:
        clock = StillClock()
        boot = open_database(url, clock)
        boot.run(lambda tx: metadata.create_all(tx.connection, tables=CORE_TABLES))
        self.tables = Tables(boot, "base", "saved")
        self.tables.do(audit.TRIGGERS)
        self.tables.do("SET plan_cache_mode = force_generic_plan; " + audit.QUESTION)
        self._boot = boot
        self.stage = Stage(url, clock)
        self.scene = Scene(self.stage, self.tables, clock)
        self.scene.found()
        self.tables.save("base")

    def mutant(self, name: str, *, everything: bool = False) -> Result:
        """With a guard off, until that shows. ``everything``: all orders, whatever shows."""
        mutant = MUTANTS[name]
        with mutated(name, self.tables.do):
            return self.play(SCENARIOS[mutant.scenario], shows=None if everything else mutant.shows)

    def play(
        self, scenario: Scenario, *, full: bool = False, limit: int = 0, shows: str | None = ""
    ) -> Result:
        """Ends at the first order with a fault that begins with ``shows``."""
        began = time.monotonic()
        explorer = Explorer(self.stage, self.beginning(scenario), full)
        result = Result(explorer.count)
        for order in explorer.orders(limit):
            wrong = [*audit.wrong(self.tables), *_unforeseen(order), *self._check(scenario, order)]
            if wrong:
                result.faults.append(Fault(wrong, order))
            if shows is not None and any(what.startswith(shows) for what in wrong):
                break
        result.seconds = time.monotonic() - began
        return result

    def beginning(self, scenario: Scenario) -> Callable[[], list[Any]]:
        """Prepares the scenario; what is returned puts it back, and gives what the sessions are to do."""
        scene = self.scene
        scene.clock.seconds = 0.0
        self.tables.restore("base")
        scene.begin_anew()
        scenario.prepare(scene)
        self.stage.positions = scenario.positions
        scene.keep()
        return lambda: self._begin(scenario)

    def close(self) -> None:
        self.stage.close()
        self.tables.close()
        self._boot.engine.dispose()

    def _begin(self, scenario: Scenario) -> list[Any]:
        self.scene.put_back()
        return [act(self.scene, list(session)) for session in scenario.sessions]

    def _check(self, scenario: Scenario, order: Order) -> Iterator[str]:
        if not any(isinstance(outcome, BaseException) for outcome in order.outcomes):
            yield from scenario.check(self.scene, order.outcomes)


def _unforeseen(order: Order) -> Iterator[str]:
    for who, outcome in enumerate(order.outcomes):
        if isinstance(outcome, BaseException):
            yield f"session {who} ended in {outcome!r}"
            continue
        for answer in outcome:
            if isinstance(answer, ApiError) and answer.category in (Category.INTERNAL, Category.UNAVAILABLE):
                yield f"session {who} was told {answer!r}"


@contextmanager
def theatre(url: str) -> Iterator[Theatre]:
    """On an empty PostgreSQL database."""
    with small_ring():
        opened = Theatre(url)
        try:
            yield opened
        finally:
            opened.close()
