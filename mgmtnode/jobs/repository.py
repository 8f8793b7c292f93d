"""The only SQL on jobs and claims. Every change of a running job is a compare-and-set on (uuid, fence, state)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    any_,
    bindparam,
    column,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from mgmtnode.db.base import UtcTime
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import claim, job, ring_slot
from mgmtnode.jobs.job import Job, JobState
from mgmtnode.jobs.watch import JobWatch
from mgmtnode.telemetry.telemetry import Telemetry

OPEN = (JobState.PENDING, JobState.RUNNING, JobState.ROLLING_BACK)
VIEW = tuple(job.c[f] for f in Job.__struct_fields__ if f in job.c)


class Fenced(Exception):
    """Somebody else owns the job now, or it has ended: drop everything, touch nothing."""


class JobRow(msgspec.Struct, kw_only=True):
    """What running a job needs of its row."""

    seq: int
    uuid: str
    account_uuid: str
    caller: str
    api: str
    payload: str
    resource_type: str
    resource_uuid: str
    origin: str
    slot: int
    state: str
    fence: int
    step_no: int
    journal: str | None
    cancel_requested: bool
    crashes: int
    handovers: int
    deadline_at: datetime
    owner_node: str | None
    steps: list[Any] | None
    accepted_at: datetime
    started_at: datetime | None
    trace: str
    span: str


ROW = tuple(job.c[f] for f in JobRow.__struct_fields__)


def _is_open(table: Any) -> ColumnElement[bool]:
    """Spelled out, as in the predicate of the indexes of open jobs."""
    spelled: ColumnElement[bool] = table.c.state.in_([literal_column(f"'{state}'") for state in OPEN])
    return spelled


# Written once: building a statement costs more than running it, and every job runs these.
_THIS = job.c.uuid == bindparam("this")
_MINE = select(job.c.resource_uuid, job.c.seq).where(_THIS).subquery()
_BEFORE_MINE = and_(job.c.resource_uuid == _MINE.c.resource_uuid, _is_open(job), job.c.seq < _MINE.c.seq)
INSERT = {
    "sqlite": sqlite.insert(job).on_conflict_do_nothing().returning(job.c.seq),
    "postgresql": postgresql.insert(job).on_conflict_do_nothing().returning(job.c.seq),
}
SHOW = select(*VIEW).where(_THIS)
GET = select(*ROW).where(_THIS)
_EARLIER = job.alias("earlier")
_AHEAD = exists().where(
    _EARLIER.c.resource_uuid == job.c.resource_uuid, _is_open(_EARLIER), _EARLIER.c.seq < job.c.seq
)
LOOK = select(*ROW, _AHEAD.label("ahead")).where(_THIS)
POSITION = select(func.count()).select_from(job).join(_MINE, _BEFORE_MINE)
EPOCH = (
    select(ring_slot.c.epoch)
    .where(ring_slot.c.slot == bindparam("which"), ring_slot.c.owner == bindparam("name"))
    .where(ring_slot.c.incarnation == bindparam("life"))
    .with_for_update(read=True)
)
LOWEST_OPEN = select(func.min(job.c.seq)).where(_is_open(job))
HIGHEST = select(func.max(job.c.seq))
TAKE = update(job).where(_THIS, job.c.state == bindparam("was"), job.c.fence <= bindparam("below"))
_HELD = update(job).where(_THIS, job.c.fence == bindparam("held"), job.c.state == bindparam("was"))
WRITE = _HELD.returning(job.c.cancel_requested)
END_WAITING = update(job).where(_THIS, job.c.state == JobState.PENDING).returning(*VIEW)
RELEASE = delete(claim).where(
    claim.c.resource_uuid == bindparam("here"), claim.c.job_uuid == bindparam("this")
)
# PostgreSQL needs one round trip for what SQLite does in two.
END = {
    "sqlite": _HELD.returning(*VIEW),
    "postgresql": _HELD.returning(*VIEW).add_cte(RELEASE.cte("released")),
}
BY_KEY = select(job.c.request_hash, *VIEW).where(
    job.c.account_uuid == bindparam("account"), job.c.idempotency_key == bindparam("key")
)
INSERT_ALL = postgresql.insert(job).on_conflict_do_nothing().returning(job.c.uuid, job.c.seq)
BY_KEYS = select(job.c.idempotency_key, job.c.request_hash, *VIEW).where(
    tuple_(job.c.account_uuid, job.c.idempotency_key).in_(bindparam("pairs", expanding=True))
)
WAITING_FOR = (
    select(job.c.resource_uuid, func.count())
    .where(job.c.resource_uuid.in_(bindparam("these", expanding=True)), _is_open(job))
    .group_by(job.c.resource_uuid)
)
_ENTERED = column("uuid", String)
TRY_ENQUEUE = (
    select(_ENTERED)
    .select_from(func.unnest(bindparam("these", type_=ARRAY(String))).table_valued(_ENTERED).render_derived())
    .where(func.pg_try_advisory_xact_lock(func.hashtextextended(_ENTERED, 0)))
)
OPEN_CHILDREN = select(job.c.uuid).where(
    job.c.parent_uuid.in_(bindparam("above", expanding=True)), _is_open(job)
)
HAND_OVER = (
    update(job)
    .where(_is_open(job), job.c.slot.in_(bindparam("slots", expanding=True)))
    .where(job.c.owner_node == bindparam("giver"), job.c.uuid.not_in(bindparam("but", expanding=True)))
    .values(owner_node=None)
)
WORKED_ON = (
    select(job.c.resource_uuid)
    .where(job.c.resource_uuid.in_(bindparam("these", expanding=True)), job.c.seq >= bindparam("from_seq"))
    .distinct()
)
ASKED_TO_STOP = select(job.c.uuid).where(job.c.cancel_requested, _is_open(job))


IN_SLOTS = {
    "sqlite": job.c.slot.in_(bindparam("slots", expanding=True)),
    "postgresql": job.c.slot == any_(bindparam("slots", type_=ARRAY(Integer))),
}


def _with_slots(statement: Select[Any]) -> dict[str, Select[Any]]:
    """For all slots, and by dialect for those that are given."""
    limited = statement.limit(bindparam("most"))
    return {"": limited} | {dialect: limited.where(where) for dialect, where in IN_SLOTS.items()}


_OVERDUE = and_(job.c.state == JobState.PENDING, job.c.deadline_at <= bindparam("now", type_=UtcTime))
OPEN_IN = _with_slots(
    select(job.c.seq, job.c.uuid, job.c.resource_uuid, _OVERDUE).where(_is_open(job)).order_by(job.c.seq)
)
OVERDUE = _with_slots(select(*ROW).where(_is_open(job), _OVERDUE).order_by(job.c.seq))


def _hold(dialect: Any) -> Any:
    row: dict[str, Any] = {
        "resource_uuid": bindparam("here"),
        "job_uuid": bindparam("this"),
        "fence": bindparam("epoch"),
    }
    statement = dialect.insert(claim).values(row)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["resource_uuid"], set_={"fence": new.fence}, where=claim.c.job_uuid == new.job_uuid
    )


HOLD = _hold(sqlite)
_NOW_HELD = _hold(postgresql).returning(claim.c.job_uuid).cte("held")
TAKE_AND_HOLD = TAKE.where(job.c.uuid.in_(select(_NOW_HELD.c.job_uuid)))


class JobRepository:
    """``watch`` hears of what is done to jobs."""

    def __init__(self, watch: JobWatch | None = None) -> None:
        self.watch = watch or JobWatch(Telemetry())

    def insert(self, tx: Tx, values: dict[str, Any]) -> int | None:
        """The new job's seq; None if (account, key) exists."""
        return tx.execute(INSERT[tx.dialect], values).scalar()

    def insert_all(self, tx: Tx, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
        """The seqs of new jobs by uuid, without those whose (account, key) exists. One round trip."""
        if tx.dialect != "postgresql":
            inserted = {str(row["uuid"]): self.insert(tx, row) for row in rows}
            return {uuid: seq for uuid, seq in inserted.items() if seq is not None}
        found = tx.execute(INSERT_ALL, list(rows)) if rows else ()
        return {str(row[0]): int(row[1]) for row in found}

    def by_keys(self, tx: Tx, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, Job]]:
        """What ``by_key`` finds for each (account, key)."""
        found = tx.execute(BY_KEYS, {"pairs": list(keys)}).mappings() if keys else ()
        return {
            (row["account_uuid"], row["idempotency_key"]): (str(row["request_hash"]), _view(row))
            for row in found
        }

    def by_key(self, tx: Tx, account: str, key: str) -> tuple[str, Job] | None:
        """(request hash, job) of an earlier request with this key."""
        row = tx.execute(BY_KEY, {"account": account, "key": key}).mappings().first()
        return (str(row["request_hash"]), _view(row)) if row else None

    def view(self, tx: Tx, uuid: str) -> Job | None:
        row = tx.execute(SHOW, {"this": uuid}).mappings().first()
        return _view(row) if row else None

    def views(self, tx: Tx, uuids: Sequence[str]) -> dict[str, Job]:
        """Those of the jobs that exist."""
        rows = tx.execute(select(*VIEW).where(job.c.uuid.in_(uuids))).mappings()
        return {str(row["uuid"]): _view(row) for row in rows}

    def get(self, tx: Tx, uuid: str) -> JobRow | None:
        row = tx.execute(GET, {"this": uuid}).first()
        return _row(row) if row else None

    def waiting_for(self, tx: Tx, uuids: Sequence[str]) -> dict[str, int]:
        """How many open jobs each of the resources has that has any."""
        return {str(r[0]): int(r[1]) for r in tx.execute(WAITING_FOR, {"these": list(uuids)})}

    def look(self, tx: Tx, uuid: str) -> tuple[JobRow | None, bool]:
        """The job, and whether an earlier accepted one on its resource has not ended."""
        row = tx.execute(LOOK, {"this": uuid}).first()
        return (_row(row[:-1]), bool(row[-1])) if row else (None, False)

    def before(self, tx: Tx, resource_uuid: str, uuid: str) -> list[str]:
        """The open jobs on the resource accepted before job ``uuid``, oldest first."""
        mine = select(job.c.seq).where(job.c.uuid == uuid).scalar_subquery()
        where = and_(job.c.resource_uuid == resource_uuid, _is_open(job), job.c.seq < mine)
        return [str(r[0]) for r in tx.execute(select(job.c.uuid).where(where).order_by(job.c.seq))]

    def position(self, tx: Tx, uuid: str) -> int:
        """How many open jobs on its resource come before job ``uuid``."""
        return int(tx.execute(POSITION, {"this": uuid}).scalar() or 0)

    def family(self, tx: Tx, uuid: str) -> list[str]:
        """The job and its open descendants."""
        found, level = [uuid], [uuid]
        while level:
            level = [str(r[0]) for r in tx.execute(OPEN_CHILDREN, {"above": level})]
            found += level
        return found

    def ancestry(self, tx: Tx, uuid: str) -> list[str]:
        """The resources of a job and of those above it."""
        resources: list[str] = []
        above: str | None = uuid
        while above is not None:
            row = tx.execute(
                select(job.c.resource_uuid, job.c.parent_uuid).where(job.c.uuid == above)
            ).first()
            if row is None:
                break
            resources.append(str(row[0]))
            above = row[1]
        return resources

    def children(self, tx: Tx, uuid: str, *, but: str) -> list[str]:
        """The open child jobs, without those whose key begins with ``but``."""
        others = OPEN_CHILDREN.where(~job.c.idempotency_key.startswith(but))
        return [str(r[0]) for r in tx.execute(others, {"above": [uuid]})]

    def enqueue(self, tx: Tx, resource_uuid: str) -> None:
        """Lets one acceptance a resource through at a time, so that jobs become visible in the order of their seq:
        a later one that ran first would make its host refuse the earlier one's commands as old."""
        if tx.dialect == "postgresql":
            tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(resource_uuid, 0))))

    def try_enqueue(self, tx: Tx, uuids: Sequence[str]) -> set[str]:
        """``enqueue`` for those of the resources that nobody else holds."""
        if tx.dialect != "postgresql":
            return set(uuids)
        return {str(r[0]) for r in tx.execute(TRY_ENQUEUE, {"these": list(uuids)})}

    def epoch(self, tx: Tx, slot: int, owner: str, incarnation: int) -> int | None:
        """The slot's epoch if this node owns it; the row stays locked, so no takeover commits meanwhile."""
        return tx.execute(EPOCH, {"which": slot, "name": owner, "life": incarnation}).scalar()

    def take(self, tx: Tx, row: JobRow, values: dict[str, Any]) -> None:
        """The compare-and-set of a claim, and the claim itself, the database's own «one job a resource». Raises
        Fenced."""
        epoch = values["fence"]
        mine = values | {"this": row.uuid, "was": row.state, "below": epoch}
        claimed = {"here": row.resource_uuid, "this": row.uuid, "epoch": epoch}
        if tx.dialect == "postgresql":
            taken = tx.execute(TAKE_AND_HOLD, mine | claimed).rowcount
        else:
            taken = tx.execute(TAKE, mine).rowcount and tx.execute(HOLD, claimed).rowcount
        if not taken:
            raise Fenced

    def write(self, tx: Tx, uuid: str, fence: int, state: JobState, values: dict[str, Any]) -> bool:
        """The compare-and-set of a running job; whether somebody asked it to stop. Raises Fenced when it is not
        ours in that state any more."""
        row = tx.execute(WRITE, values | {"this": uuid, "held": fence, "was": state}).first()
        if row is None:
            raise Fenced
        return bool(row[0])

    def end(self, tx: Tx, row: JobRow, fence: int, state: JobState, values: dict[str, Any]) -> Job:
        """The compare-and-set that ends a running job, and its claim: the job as it is for ever. Raises Fenced."""
        mine = {"this": row.uuid, "held": fence, "was": state, "here": row.resource_uuid}
        ended = tx.execute(END[tx.dialect], values | mine).mappings().first()
        if ended is None:
            raise Fenced
        if tx.dialect != "postgresql":
            tx.execute(RELEASE, {"here": row.resource_uuid, "this": row.uuid})
        return _view(ended)

    def request_cancel(self, tx: Tx, uuid: str) -> JobRow | None:
        """Asks an open job to stop. The row as it is now; None if it has ended."""
        where = and_(job.c.uuid == uuid, _is_open(job))
        row = (
            tx.execute(update(job).where(where).values(cancel_requested=True).returning(*ROW))
            .mappings()
            .first()
        )
        return JobRow(**row) if row else None

    def end_waiting(self, tx: Tx, uuid: str, values: dict[str, Any]) -> Job | None:
        """The compare-and-set that ends a job nobody has claimed yet; None if somebody has."""
        row = tx.execute(END_WAITING, values | {"this": uuid}).mappings().first()
        return _view(row) if row else None

    def overdue(self, tx: Tx, slots: Sequence[int] | None, limit: int) -> list[JobRow]:
        """Jobs that wait for their turn though their deadline has passed."""
        found = tx.execute(*_in_slots(tx, OVERDUE, slots, limit))
        return [_row(row) for row in found]

    def hand_over(self, tx: Tx, held: Iterable[tuple[str, int]]) -> None:
        """Gives (job, fence) back in good order: whoever takes it up does not count a crash."""
        for uuid, fence in held:
            where = and_(job.c.uuid == uuid, job.c.fence == fence, _is_open(job))
            tx.execute(update(job).where(where).values(owner_node=None))

    def hand_over_slots(self, tx: Tx, slots: Sequence[int], owner: str, but: Sequence[str]) -> int:
        """The same for all jobs of ``owner`` in these slots, except those it could not stop. Returns how many."""
        return tx.execute(HAND_OVER, {"slots": list(slots), "giver": owner, "but": list(but)}).rowcount

    def cancelled(self, tx: Tx, uuids: Iterable[str]) -> set[str]:
        """Those of the jobs that somebody asked to stop. Few are asked: all of these are read, not all of those."""
        return {str(r[0]) for r in tx.execute(ASKED_TO_STOP)}.intersection(uuids)

    def open_in(self, tx: Tx, slots: Sequence[int] | None, limit: int) -> list[tuple[int, str, str, bool]]:
        """(seq, uuid, resource, whether overdue) of open jobs, oldest first; ``slots`` None means all."""
        rows = tx.execute(*_in_slots(tx, OPEN_IN, slots, limit))
        return [(int(r[0]), str(r[1]), str(r[2]), bool(r[3])) for r in rows]

    def runs(self, tx: Tx) -> tuple[int | None, int]:
        """The lowest seq of any open job, if there is one, and the highest of any that is still kept."""
        return tx.execute(LOWEST_OPEN).scalar(), int(tx.execute(HIGHEST).scalar() or 0)

    def worked_on_since(self, tx: Tx, uuids: Sequence[str], seq: int) -> set[str]:
        """Those of the resources that a job from ``seq`` on is about."""
        return {str(r[0]) for r in tx.execute(WORKED_ON, {"these": list(uuids), "from_seq": seq})}

    def forget(self, tx: Tx, before: datetime, limit: int) -> int:
        """Deletes ended jobs older than ``before``; returns how many."""
        old = select(job.c.seq).where(job.c.ended_at < before).limit(limit)
        return tx.execute(delete(job).where(job.c.seq.in_(old))).rowcount


def _in_slots(
    tx: Tx, statements: Mapping[str, Select[Any]], slots: Sequence[int] | None, most: int
) -> tuple[Select[Any], dict[str, Any]]:
    """The statement, and its values."""
    values: dict[str, Any] = {"now": tx.now, "most": most}
    if slots is None:
        return statements[""], values
    return statements[tx.dialect], values | {"slots": list(slots)}


def _row(values: Iterable[Any]) -> JobRow:
    return JobRow(**dict(zip(JobRow.__struct_fields__, values, strict=True)))


def _view(row: Any) -> Job:
    return Job(
        **{k: v for k, v in row.items() if k in Job.__struct_fields__} | {"state": JobState(row["state"])}
    )
