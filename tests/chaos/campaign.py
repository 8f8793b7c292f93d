"""Cycle after cycle: load, faults, healing, and a look at everything."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from mgmtnode.testing.audit import books
from mgmtnode.testing.audit.audit import POLL
from tests.chaos import checks
from tests.chaos.bounds import Bounds, of_measured
from tests.chaos.customers import Crowd
from tests.chaos.faults import Deed, Faults
from tests.chaos.history import Answered, Entry, History, Struck, of, read
from tests.chaos.hostile import Hostile, waiting
from tests.chaos.logs import Logs
from tests.chaos.mailers import Mailers
from tests.chaos.overload import Overload
from tests.chaos.plan import AGENTS, BROKER, TO_BROKER, TO_HOSTS, Fault, Kind, Plan
from tests.chaos.stage import API_VHOST, Stage

QUIET_SECONDS = 2.0  # of load before the first fault and after the last
HEAL_SECONDS = 150.0
FINISH_SECONDS = 120.0
TAKEOVER = (Kind.KILL, Kind.PAUSE)
ALONE_SECONDS = 10.0
ELSEWHERE = (TO_BROKER, TO_HOSTS, BROKER, AGENTS)
"""What a takeover does not need, and the lines to it."""


@dataclass
class Figures:
    """``violations``: what was wrong, in the order in which it was found."""

    cycles: int = 0
    jobs: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    """Of the errors that jobs failed of."""
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    troubled: int = 0
    resolved: int = 0
    asked_again: int = 0
    commits: int = 0
    slots: list[float] = field(default_factory=list)
    went_on: list[float] = field(default_factory=list)
    heal: list[float] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    ends: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    violations: list[str] = field(default_factory=list)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0


class Campaign:
    def __init__(
        self, stage: Stage, plan: Plan, directory: Path, clients: int, say: Callable[[str], None]
    ) -> None:
        self.figures = Figures()
        self.history = History(directory / "history.jsonl")
        self._stage, self._plan, self._say = stage, plan, say
        self._crowd = Crowd(stage, self.history, plan.seed, clients)
        self._mailers = Mailers(stage, self.history, plan.seed, max(2, clients // 6))
        self._hostile = Hostile(plan.seed)
        overload = Overload(self.history, plan.seed, clients, self._crowd.keep)
        self._extra: dict[Kind, Deed] = {Kind.HOSTILE: self._hostile, Kind.OVERLOAD: overload}
        self._bounds = Bounds(stage, self.history)
        self._logs = Logs(stage.cluster.directory.path / "logs")

    def run(self, seconds: float) -> Figures:
        """At least one cycle, and none that begins later than that. The first violation ends it."""
        until = time.monotonic() + seconds
        self._bounds.start()
        try:
            for number, faults in enumerate(self._plan.cycles(), 1):
                self._cycle(number, faults)
                if self.figures.violations or time.monotonic() > until:
                    break
        finally:
            self._bounds.stop()
            self.history.close()
        return self.figures

    def _cycle(self, number: int, faults: list[Fault]) -> None:
        self._say(f"cycle {number}")
        for fault in faults:
            self._say(f"  {fault}")
        self._load(number, faults)
        began = time.monotonic()
        violations = self._heal()
        self.figures.heal.append(time.monotonic() - began)
        self._count(number, [*violations, *self._look()])

    def _load(self, number: int, faults: list[Fault]) -> None:
        made = Faults(self._stage, self.history, number, self._extra)
        self._crowd.begin(number)
        self._mailers.begin(number)
        try:
            time.sleep(QUIET_SECONDS)
            made.begin(faults)
            made.finish()
            time.sleep(QUIET_SECONDS)
        except BaseException:
            made.finish(at_once=True)
            raise
        finally:
            self._crowd.finish(FINISH_SECONDS)
            self._mailers.finish()

    def _heal(self) -> list[str]:
        """Waits until nothing is left to mend. What was not known to clients is asked for again."""
        until = time.monotonic() + HEAL_SECONDS
        try:
            self._stage.audit.settle(HEAL_SECONDS)
        except AssertionError as late:
            return [f"I16: {late}", *checks.left_over(self._stage.audit.records)]
        self.figures.asked_again += self._crowd.resolve() + self._mailers.resolve()
        while missing := self._missing():
            if time.monotonic() > until:
                slow = f"I16: not at rest after {HEAL_SECONDS:g} s: {missing}"
                return [slow, *checks.left_over(self._stage.audit.records)]
            time.sleep(POLL)
        return []

    def _missing(self) -> str:
        stage = self._stage
        url = stage.cluster.rabbit.vhost_url(API_VHOST)
        records = stage.audit.records
        return stage.audit.unsettled() or checks.unsettled(records) or waiting(url) or self._astray()

    def _astray(self) -> str:
        """What hosts have yet to report: that a command which nobody waited for had its effect."""
        records = self._stage.audit.records
        return next(chain(books.hosts(records), checks.of_hosts(records, self._stage.agents.url)), "")

    def _look(self) -> list[str]:
        audit, records = self._stage.audit, self._stage.audit.records
        entries = list(read(self.history.path))
        return [
            *audit.findings(),
            *books.acknowledged(records, checks.Promises.of(entries).acknowledged),
            *checks.of_history(entries, records),
            *checks.of_listeners(records, self._stage.listeners),
            *checks.of_database(records),
            *checks.of_hosts(records, self._stage.agents.url),
            *of_measured(entries),
            *self._logs.findings(),
        ]

    def _count(self, number: int, violations: list[str]) -> None:
        figures, entries = self.figures, list(read(self.history.path))
        promises = checks.Promises.of(entries)
        figures.cycles = number
        figures.violations += violations
        codes = "SELECT error::json ->> 'code', count(*) FROM job WHERE state = 'Failed' GROUP BY 1"
        figures.codes = Counter(dict(self._stage.audit.records.rows(codes)))
        figures.jobs = Counter(
            dict(self._stage.audit.records.rows("SELECT state, count(*) FROM job GROUP BY 1"))
        )
        figures.faults = Counter(
            f"{struck.kind}, {_kind_of(struck.victim)}" for struck in of(Struck, entries) if not struck.over
        )
        answers = list(of(Answered, entries))
        figures.requests, figures.answers = len(answers), Counter(answer.status for answer in answers)
        figures.troubled = len(promises.troubled)
        figures.resolved = len(promises.troubled & promises.settled)
        figures.commits = self._stage.lines.commits
        figures.ends, figures.errors = self._stage.ends, self._logs.errors
        figures.peaks = self._bounds.peaks
        with self._stage.cluster.history_file.open("rb") as lines:
            figures.commands = sum(b'"started"' in line for line in lines)
        self._time_takeovers(number, entries)
        bad = f", {len(violations)} VIOLATIONS" if violations else ""
        done = f"{sum(figures.jobs.values())} jobs, {figures.requests} requests"
        self._say(f"  {done}, at rest after {figures.heal[-1]:.1f} s{bad}")

    def _time_takeovers(self, number: int, entries: list[Entry]) -> None:
        struck = [one for one in of(Struck, entries) if one.cycle == number]
        for one in struck:
            if one.over or one.kind not in TAKEOVER or not one.victim.startswith("node"):
                continue
            if any(_hinders(other, one, struck) for other in struck):
                continue
            took = self._stage.audit.takeover(one.victim, one.at)
            self.figures.slots += [took.slots] if took.slots is not None else []
            self.figures.went_on += [took.jobs] if took.jobs is not None else []


def _hinders(other: Struck, one: Struck, struck: list[Struck]) -> bool:
    """Whether a fault lasted while the node of another one was taken over, and what that needs: the database, and
    nodes that are well."""
    if other is one or other.over or other.victim.startswith("clients"):
        return False
    if other.victim.rpartition(">")[2] in ELSEWHERE:
        return False
    ends = [
        late.at for late in struck if late.over and (late.kind, late.victim) == (other.kind, other.victim)
    ]
    return other.at < one.at + ALONE_SECONDS and max(ends, default=other.at) > one.at - 1.0


def _kind_of(victim: str) -> str:
    """``node-1>database`` as ``node>database``."""
    return ">".join("node" if end.startswith("node-") else end for end in victim.split(">"))
