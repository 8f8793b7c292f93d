"""The guards that act between the statements of two transactions, each switched off: the orders must show it.

Those of ``tests/simulation/mutants.py`` that the simulation cannot show, because there a transaction runs alone, and
those that only a database with several writers needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from sqlalchemy import bindparam, false, insert, select, text, update

from mgmtnode.cluster import repository as cluster
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import allocation, job, pool, resource, ring_slot
from mgmtnode.events import repository as events
from mgmtnode.jobs import ledger
from mgmtnode.jobs import repository as jobs
from mgmtnode.jobs.repository import JobRepository

Change = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """``scenario`` shows it, by a fault that begins with ``shows``. ``ddl``: what the database must lose for it, and
    how it gets that back."""

    what: str
    scenario: str
    shows: str
    changes: Callable[[], Sequence[Change]]
    ddl: tuple[str, str] = ("", "")


@contextmanager
def mutated(name: str, ddl: Callable[[str], None]) -> Iterator[None]:
    """While it lasts, the guard is off."""
    mutant = MUTANTS[name]
    with ExitStack() as stack:
        if mutant.ddl[0]:
            ddl(mutant.ddl[0])
            stack.callback(ddl, mutant.ddl[1])
        for owner, attribute, value in mutant.changes():
            stack.enter_context(mock.patch.object(owner, attribute, value))
        yield


def _nothing(tx: Tx, slots: Sequence[int]) -> None:
    pass


# the ring


def _no_share() -> list[Change]:
    statement = (
        select(ring_slot.c.epoch)
        .where(ring_slot.c.slot == bindparam("which"), ring_slot.c.owner == bindparam("name"))
        .where(ring_slot.c.incarnation == bindparam("life"))
    )
    return [(jobs, "EPOCH", statement)]


def _fence_first() -> list[Change]:
    """Jobs are fenced before the slots move, under the epoch that will be."""
    give = cluster.give

    def giving(tx: Tx, slots: Sequence[int], name: str, incarnation: int) -> None:
        if slots:
            epoch = select(ring_slot.c.epoch + 1).where(ring_slot.c.slot == job.c.slot).scalar_subquery()
            tx.execute(
                update(job).where(job.c.state.in_(jobs.OPEN), job.c.slot.in_(slots)).values(fence=epoch)
            )
        give(tx, slots, name, incarnation)

    return [(cluster, "give", giving), (cluster, "fence_open_jobs", lambda tx, slots: None)]


ONE_STATEMENT = text(
    "WITH moved AS (UPDATE ring_slot SET owner = :name, incarnation = :life, epoch = epoch + 1, target = NULL"
    " WHERE slot = ANY(:slots) RETURNING slot, epoch)"
    " UPDATE job SET fence = moved.epoch FROM moved WHERE job.slot = moved.slot"
    " AND job.state IN ('Pending', 'Running', 'RollingBack')"
)


def _fence_at_once() -> list[Change]:
    """Slots and jobs in one statement: one snapshot, taken before it waits for anybody."""

    def giving(tx: Tx, slots: Sequence[int], name: str, incarnation: int) -> None:
        if slots:
            tx.execute(ONE_STATEMENT, {"name": name, "life": incarnation, "slots": list(slots)})

    return [(cluster, "give", giving), (cluster, "fence_open_jobs", lambda tx, slots: None)]


def _no_cluster_lock() -> list[Change]:
    def lock(tx: Tx) -> str:
        return str(tx.execute(select(cluster.cluster.c.uuid).where(cluster.cluster.c.id == 1)).scalar_one())

    return [(cluster, "lock", lock)]


# jobs


def _no_cas() -> list[Change]:
    held = _ignoring(update(job).where(jobs._THIS), held=0, was="")
    end = held.returning(*jobs.VIEW).add_cte(jobs.RELEASE.cte("released"))
    return [(jobs, "WRITE", held.returning(job.c.cancel_requested)), (jobs, "END", {"postgresql": end})]


def _no_take_cas() -> list[Change]:
    """The claim is written, and nothing else looked at."""
    taking = _ignoring(update(job).where(jobs._THIS), was="", below=0)
    return [(jobs, "TAKE_AND_HOLD", taking.where(job.c.uuid.in_(select(jobs._NOW_HELD.c.job_uuid))))]


def _ignoring(statement: Any, **given: Any) -> Any:
    """Takes values that it does nothing with."""
    return statement.where(
        *(bindparam(name, value) == bindparam(name, value) for name, value in given.items())
    )


def _no_hold() -> list[Change]:
    return [(jobs, "TAKE_AND_HOLD", _ignoring(jobs.TAKE, here="", epoch=0))]


def _no_turns() -> list[Change]:
    return [(jobs, "LOOK", select(*jobs.ROW, false().label("ahead")).where(jobs._THIS))]


def _no_enqueue() -> list[Change]:
    return [(JobRepository, "enqueue", lambda self, tx, resource_uuid: None)]


def _no_try_enqueue() -> list[Change]:
    return [(JobRepository, "try_enqueue", lambda self, tx, uuids: set(uuids))]


def _no_waiting_cas() -> list[Change]:
    """The end of a job that waits is written without looking whether it still does."""

    return [(jobs, "END_WAITING", update(job).where(jobs._THIS).returning(*jobs.VIEW))]


def _no_conflict_clause() -> list[Change]:
    """A retry is looked for, and then inserted."""
    return [(jobs, "INSERT", {"postgresql": insert(job).returning(job.c.seq)})]


# nodes


def _no_look_at_the_beat() -> list[Change]:
    real = cluster.drop_lease

    def drop_lease(tx: Tx, name: str, incarnation: int, hb_seq: int | None = None) -> bool:
        return real(tx, name, incarnation)

    return [(cluster, "drop_lease", drop_lease)]


# the books


def _look_then_take_unit() -> list[Change]:
    """The address is looked for, then inserted, and nothing in the database keeps it unique."""

    def take_unit(tx: Tx, pool_uuid: str, kind: str, unit: str, *, holder: str, uuid: str) -> bool:
        if unit in ledger.units(tx, pool_uuid, unit=unit):
            return False
        row = ledger._row(tx, pool_uuid, kind, holder, uuid) | {"amount": 1, "unit": unit}
        tx.execute(insert(allocation), row)
        return True

    return [(ledger, "take_unit", take_unit)]


def _look_then_reserve() -> list[Change]:
    """What is used is read, compared, and written."""

    def reserve(
        tx: Tx, pool_uuid: str, kind: str, amount: int, *, holder: str, uuid: str, force: bool = False
    ) -> bool:
        used, limit = ledger.usage(tx, pool_uuid, kind)
        if used + amount > limit:
            return False
        where = (pool.c.resource_uuid == pool_uuid) & (pool.c.kind == kind)
        tx.execute(update(pool).where(where).values(used=used + amount))
        tx.execute(insert(allocation), ledger._row(tx, pool_uuid, kind, holder, uuid) | {"amount": amount})
        return True

    return [(ledger, "reserve", reserve)]


def _look_then_count() -> list[Change]:
    """The revision is read as it was before anybody was waited for, and written one higher."""
    seen, raising = resource.alias("seen"), events._raise_revision
    higher = select(seen.c.revision + 1).where(seen.c.uuid == bindparam("of")).scalar_subquery()
    with mock.patch.object(events, "_raise_revision", lambda place: raising(place).values(revision=higher)):
        return [(events, "RAISE_AND_APPEND", events._raise_and_append(events.PLACE["postgresql"]))]


def _read_all() -> list[Change]:
    return [(events, "_settled", lambda tx: text("1=1"))]


def _own_place() -> list[Change]:
    """An event stands where its own transaction does, whatever came before it on the resource."""
    return [(events, "RAISE_AND_APPEND", events._raise_and_append(events.XID["postgresql"]))]


UNIT_INDEX = (
    "DROP INDEX public.uq_allocation_pool_unit",
    "DELETE FROM allocation; CREATE UNIQUE INDEX uq_allocation_pool_unit ON public.allocation (pool_uuid, unit)"
    " WHERE unit IS NOT NULL",
)

MUTANTS: dict[str, Mutant] = {
    "share": Mutant("a claim does not lock its slot", "accept, sweep, evict", "I2", _no_share),
    "fence first": Mutant(
        "jobs are fenced before their slots move", "accept, sweep, evict", "I2", _fence_first
    ),
    "fence at once": Mutant(
        "jobs are fenced in the statement that moves slots",
        "claim, accept and claim, evict",
        "I2",
        _fence_at_once,
    ),
    "refence": Mutant(
        "open jobs are not fenced",
        "finish, evict and run",
        "I2",
        lambda: [(cluster, "fence_open_jobs", _nothing)],
    ),
    "cluster lock": Mutant("changes of the ring may cross", "evict, its heir leaves", "I1", _no_cluster_lock),
    "beat": Mutant(
        "an eviction does not look whether the node moved", "evict, beat", "", _no_look_at_the_beat
    ),
    "turns": Mutant("a job does not wait for earlier ones", "claim, claim the next", "I7", _no_turns),
    "turns+claim": Mutant(
        "nor does a row say which job has a resource",
        "claim, claim the next long one",
        "I3",
        lambda: [*_no_turns(), *_no_hold()],
    ),
    "enqueue": Mutant("jobs become visible in any order", "accept, accept and claim", "I7", _no_enqueue),
    "enqueue together": Mutant(
        "nor do those that are accepted together wait",
        "accept two together, accept and claim",
        "I7",
        _no_try_enqueue,
    ),
    "take": Mutant("a claim compares nothing", "begin, cancel", "", _no_take_cas),
    "cas": Mutant("writes of running jobs compare nothing", "finish, evict and run", "", _no_cas),
    "waiting": Mutant(
        "the end of a waiting job compares nothing", "cancel, end as overdue", "", _no_waiting_cas
    ),
    "conflict": Mutant(
        "a key is looked for, then inserted",
        "accept, accept a create under one key",
        "I6",
        _no_conflict_clause,
    ),
    "address": Mutant(
        "an address is looked for, then taken",
        "take an address, take it",
        "I9",
        _look_then_take_unit,
        UNIT_INDEX,
    ),
    "capacity": Mutant(
        "capacity is looked at, then taken", "reserve, reserve the last", "I8", _look_then_reserve
    ),
    "revision": Mutant("revisions are read, then raised", "event, event", "I18", _look_then_count),
    "settled": Mutant(
        "events are read before all earlier ones are there", "event, event elsewhere, read", "I13", _read_all
    ),
    "place": Mutant(
        "an event stands where its transaction began", "two events, event, read", "I13", _own_place
    ),
}
