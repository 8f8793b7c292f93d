"""The audit of one local cluster: everything that can be checked from outside of it, in one place."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Self

from mgmtnode.testing.audit import books, history
from mgmtnode.testing.audit.hosts import of_process
from mgmtnode.testing.audit.records import Records
from mgmtnode.testing.audit.trail import JobChange, SlotChange, Trail
from mgmtnode.testing.local_cluster.subscriber import Subscriber

if TYPE_CHECKING:
    from mgmtnode.testing.local_cluster.cluster import LocalCluster
    from mgmtnode.testing.local_cluster.load import Book

SETTLE_SECONDS = 120.0
STREAM_SECONDS = 30.0
POLL = 0.1
BEGINNING = "0-0"  # before the first event


class Takeover(NamedTuple):
    """Seconds from a fault until the last slot had another owner, and until the last job that was open on it was
    worked on by another node; None when there was nothing to take over."""

    slots: float | None
    jobs: float | None

    def __str__(self) -> str:
        slots = "no slots moved" if self.slots is None else f"slots moved after {self.slots:.1f} s"
        jobs = "no open jobs" if self.jobs is None else f"open jobs went on after {self.jobs:.1f} s"
        return f"{slots}, {jobs}"


class Audit:
    """Begins with ``start``, on a cluster that serves, whose PostgreSQL was started with ``trail.SETTINGS``."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.records = Records(cluster.database_url, of_process(lambda: cluster.agents_url))
        self.trail = Trail(self.records)
        self.subscriber = Subscriber(cluster.url, cluster.token)

    def start(self) -> Self:
        self.trail.install()
        self.subscriber.start(BEGINNING)
        return self

    def close(self) -> None:
        self.subscriber.stop()
        self.records.close()

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Returns once nothing is going on: every node is ready, no job is open, and every slot is where it is to be.
        Fails after ``seconds``, with what is still missing."""
        until = time.monotonic() + seconds
        while missing := self.unsettled():
            assert time.monotonic() < until, f"not at rest after {seconds:g} s: {missing}"
            time.sleep(POLL)

    def findings(self, books_kept: Iterable[Book] = ()) -> list[str]:
        """What is wrong, all of it; to be asked of a settled cluster. ``books_kept``: what clients were promised."""
        acknowledged = {key: job for book in books_kept for key, job in book.acknowledged.items()}
        return [
            *books.findings(self.records),
            *books.slots(self.records),
            *books.acknowledged(self.records, acknowledged),
            *self.trail.findings(),
            *history.findings(history.read(self.cluster.history_file)),
            *self._unseen(),
        ]

    def takeover(self, node: str, fault: float) -> Takeover:
        """What it took to take over from ``node`` after a fault at ``fault`` (Unix time)."""
        at = datetime.fromtimestamp(fault, UTC)
        return Takeover(_slots_left(self.trail.slots(), node, at), _jobs_left(self.trail.jobs(), node, at))

    def moved_slots(self, since: float) -> int:
        """How often a slot got another owner after ``since`` (Unix time)."""
        at, owners, moved = datetime.fromtimestamp(since, UTC), dict[int, str | None](), 0
        for change in self.trail.slots():
            moved += change.committed > at and owners.get(change.slot) != change.owner
            owners[change.slot] = change.owner
        return moved

    def unsettled(self) -> str:
        """What is going on; empty if nothing is."""
        away = [name for name, node in self.cluster.nodes.items() if not node.ready]
        if away:
            return f"not ready: {', '.join(away)}"
        if count := books.open_jobs(self.records):
            return f"{count} jobs are open"
        astray = books.slots(self.records) or books.moving(self.records)
        return f"{len(astray)} slots: {astray[0]}" if astray else ""

    def _unseen(self) -> Iterable[str]:
        """Events reach a subscriber a moment after they happened."""
        events = [event for (event,) in self.records.rows("SELECT xid || '-' || seq FROM event ORDER BY seq")]
        until = time.monotonic() + STREAM_SECONDS
        while (missing := self.subscriber.missing(events)) and time.monotonic() < until:
            time.sleep(POLL)
        yield from (f"I13: a subscriber did not see the event {event}" for event in missing)
        if self.subscriber.resets:
            yield "I13: a subscriber was told that events are gone"


def _slots_left(slots: Iterable[SlotChange], node: str, at: datetime) -> float | None:
    """Of the slots that ``node`` had then: when the last of them went to another one. What it got and gave later does
    not count, nor what it kept by coming back."""
    owned, last = dict[int, str | None](), None
    for change in slots:
        if change.committed <= at:
            owned[change.slot] = change.owner
        elif owned.pop(change.slot, None) == node and change.owner != node:
            last = change.committed
    return None if last is None else (last - at).total_seconds()


def _jobs_left(jobs: Iterable[JobChange], node: str, at: datetime) -> float | None:
    """Of the jobs that ``node`` was working on: when the last of them was first written by another one."""
    open_there, last = set[str](), None
    for change in jobs:
        if change.committed <= at:
            working = change.owner == node and change.state in ("Running", "RollingBack")
            (open_there.add if working else open_there.discard)(change.uuid)
        elif change.uuid in open_there and change.owner != node:
            open_there.discard(change.uuid)
            last = change.committed
    return None if last is None else (last - at).total_seconds()
