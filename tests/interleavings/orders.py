"""All orders of the steps of some sessions, each run for real, from the same beginning.

Two orders that differ only in the places of independent steps come to the same; of those one is run (sleep sets,
Godefroid 1996). ``full`` runs every single one. Which steps there are is found out by running: a session that waits
for a lock, or tries again after a deadlock, takes others than one that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from typing import Any

from tests.interleavings.accesses import Access, independent
from tests.interleavings.stage import Place, Session, Stage

TRIES = 3  # of an order that went another way than before: the database chose another victim of a deadlock


@dataclass
class Fork:
    """One place in an order: who could go on, who went, and who need not, since that was tried or changes nothing."""

    able: dict[int, Access]
    asleep: dict[int, Access]
    taken: int

    def asleep_after(self, took: Access) -> dict[int, Access]:
        return {who: access for who, access in self.asleep.items() if independent(access, took)}


@dataclass
class Order:
    """One order that was run to its end. ``steps``: (session, what it did)."""

    steps: list[tuple[int, str]]
    outcomes: list[Any]
    deadlocks: int


@dataclass
class Count:
    """``cut``: orders found, on the way, to be like one that was run. ``astray``: they went another way each time."""

    orders: int = 0
    cut: int = 0
    astray: int = 0
    deadlocks: int = 0
    steps: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


class Astray(Exception):
    """What could be done then cannot be done now."""


@dataclass
class Explorer:
    """``begin`` puts everything back and returns the work of each session; ``full``: leave nothing out."""

    stage: Stage
    begin: Callable[[], list[Any]]
    full: bool = False
    count: Count = field(default_factory=Count)

    def orders(self, limit: int = 0) -> Iterator[Order]:
        """Each order, while the database stands as it was left. ``limit``: so many at most; 0: all."""
        path: list[Fork] = []
        while True:
            order = self._run(path)
            if order is not None:
                self.count.orders += 1
                self.count.deadlocks += order.deadlocks
                self.count.steps += len(order.steps)
                yield order
            if (limit and self.count.orders >= limit) or not self._next(path):
                return

    def _next(self, path: list[Fork]) -> bool:
        """Turns the last fork at which something is left to try."""
        while path:
            fork = path[-1]
            fork.asleep[fork.taken] = fork.able[fork.taken]
            left = [who for who in fork.able if who not in fork.asleep]
            if left:
                fork.taken = left[0]
                return True
            path.pop()
        return False

    def _run(self, path: list[Fork]) -> Order | None:
        """Runs the order that ``path`` begins with, and completes the path."""
        for _ in range(TRIES):
            playing = self.stage.begin(self.begin())
            before = list(path)
            try:
                return self._follow(path, playing)
            except Astray:
                path[:] = before
            finally:
                self.stage.abandon(playing)
        self.count.astray += 1
        return None

    def _follow(self, path: list[Fork], playing: list[Session]) -> Order | None:
        steps: list[tuple[int, str]] = []
        asleep: dict[int, Access] = {}
        deadlocks = depth = 0
        while True:
            able = {
                s.number: s.pending for s in playing if s.place is Place.AT_GATE and s.pending is not None
            }
            if not able:
                if all(s.place is Place.OVER for s in playing):
                    return Order(steps, [s.outcome for s in playing], deadlocks)
                deadlocks += 1
                self.stage.await_victim(playing)
                continue
            if depth == len(path):
                awake = [who for who in able if who not in asleep]
                if not awake:
                    self.count.cut += 1
                    return None
                path.append(Fork(able, dict(asleep), awake[0]))
            fork = path[depth]
            if fork.taken not in able:
                raise Astray
            took = self._weight(able[fork.taken], playing)
            steps.append((fork.taken, able[fork.taken].what))
            self.stage.step(playing[fork.taken], playing)
            asleep = {} if self.full else fork.asleep_after(took)
            depth += 1

    def _weight(self, access: Access, playing: list[Session]) -> Access:
        """The end of a transaction also lets those go on who wait for its locks."""
        if not access.ends:
            return access
        for session in playing:
            if session.place is Place.WAITING and session.pending is not None:
                access |= session.pending
        return access
