"""The only SQL on nodes, leases and ring slots.

Whatever changes nodes or owners takes the lock on the cluster's row first, so that such changes never cross; a claim
takes a share lock on its slot's row only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CursorResult,
    Executable,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from mgmtnode.cluster.records import PRESENT, Beat, Identity, LeaseRow, NodeState
from mgmtnode.db.generation import origin
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import cluster, job, lease, node, ring_slot
from mgmtnode.jobs.repository import OPEN
from mgmtnode.ring.hash_ring import propose
from mgmtnode.ring.slots import SLOTS, SlotOwner

Execute = Callable[..., CursorResult[*tuple[Any, ...]]]

LOCK_CLASS = (
    0x6D6E  # the first half of the advisory locks that heartbeat connections hold; the second is the name
)


class NodeRow(NamedTuple):
    name: str
    incarnation: int
    state: NodeState
    label: str


class NodeRecord(NamedTuple):
    name: str
    state: NodeState
    incarnation: int
    address: str
    version: str
    started_at: datetime
    hb_seq: int | None
    in_flight: int
    queued: int


class SlotRow(NamedTuple):
    slot: int
    owner: str | None
    incarnation: int
    epoch: int
    target: str | None


# heartbeats

RENEW = (
    update(lease)
    .where(lease.c.name == bindparam("me"), lease.c.incarnation == bindparam("life"))
    .values(hb_seq=lease.c.hb_seq + 1, inflight=bindparam("now_inflight"), queued=bindparam("now_queued"))
)
_LOCKED: ColumnElement[Any] = literal_column(
    "exists (select 1 from pg_locks l where l.locktype = 'advisory' and l.granted and l.objsubid = 2"
    " and l.database = (select oid from pg_database where datname = current_database())"
    f" and l.classid = {LOCK_CLASS} and l.objid::bigint = (hashtext(mn_lease.name)::bigint & 4294967295))"
)
_AGE: ColumnElement[Any] = literal_column(
    "extract(epoch from clock_timestamp() - pg_postmaster_start_time())"
)
TAKE_LOCK = text(f"select pg_try_advisory_lock({LOCK_CLASS}, hashtext(:name))")


def _look(dialect: str) -> Executable:
    """Every lease there is, with the ring version; one row without a lease where there is none."""
    real = dialect == "postgresql"
    locked, age = (_LOCKED, _AGE) if real else (literal_column("1"), literal_column("1e9"))
    columns = (
        lease.c.name,
        lease.c.incarnation,
        lease.c.hb_seq,
        node.c.state,
        lease.c.inflight,
        lease.c.queued,
    )
    joined = cluster.outerjoin(lease, true()).outerjoin(node, node.c.name == lease.c.name)
    return select(cluster.c.ring_version, age, *columns, locked).select_from(joined).order_by(lease.c.name)


LOOK = {dialect: _look(dialect) for dialect in ("sqlite", "postgresql")}


def renew(execute: Execute, dialect: str, name: str, incarnation: int, load: tuple[int, int]) -> Beat:
    """One heartbeat of this incarnation, and a look at the others'. ``load``: jobs in flight, jobs that wait."""
    values = {"me": name, "life": incarnation, "now_inflight": load[0], "now_queued": load[1]}
    renewed = execute(RENEW, values).rowcount == 1
    return look(execute, dialect, renewed=renewed)


def look(execute: Execute, dialect: str, *, renewed: bool = False) -> Beat:
    rows = execute(LOOK[dialect]).all()
    leases = [
        LeaseRow(str(r[2]), int(r[3]), int(r[4]), NodeState(r[5]), int(r[6]), int(r[7]), bool(r[8]))
        for r in rows
        if r[2] is not None
    ]
    version, age = (int(rows[0][0]), float(rows[0][1])) if rows else (0, 0.0)
    return Beat(renewed, version, leases, age)


# who is there

LOCK = select(cluster.c.uuid).where(cluster.c.id == 1).with_for_update()
PRESENT_NODES = (
    select(node.c.name, node.c.incarnation, node.c.state, node.c.label)
    .where(node.c.state.in_(PRESENT))
    .order_by(node.c.name)
)
FOUND = {
    "sqlite": sqlite.insert(cluster).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(cluster).on_conflict_do_nothing(),
}
_NAMED = node.c.name == bindparam("me")
EARLIER = select(node.c.incarnation, node.c.label).where(_NAMED)
REGISTER = insert(node)
REGISTER_AGAIN = update(node).where(_NAMED)
SET_STATE = (
    update(node)
    .where(_NAMED, node.c.incarnation == bindparam("life"))
    .where(node.c.state.in_(bindparam("before", expanding=True)))
)
LET_GO = delete(lease).where(lease.c.name == bindparam("me"))
DROP = LET_GO.where(lease.c.incarnation == bindparam("life"))
DROP_UNMOVED = DROP.where(lease.c.hb_seq == bindparam("seen"))
LEASE = insert(lease)
SLOT_ROWS = select(*(ring_slot.c[field] for field in SlotRow._fields)).order_by(ring_slot.c.slot)


def found_cluster(tx: Tx, uuid: str) -> None:
    """Makes the cluster's row and its slots, once, however many nodes begin with it."""
    values = {"id": 1, "uuid": uuid, "ring_version": 0, "db_generation": 1, "origin": origin(tx.connection)}
    if tx.execute(FOUND[tx.dialect], values).rowcount:
        tx.execute(insert(ring_slot), [{"slot": slot} for slot in range(SLOTS)])


def lock(tx: Tx) -> str:
    """Takes the mutex of membership and ring; returns the cluster's uuid."""
    return str(tx.execute(LOCK).scalar_one())


def present(tx: Tx) -> dict[str, NodeRow]:
    """The nodes that are in the cluster."""
    rows = tx.execute(PRESENT_NODES)
    return {str(r[0]): NodeRow(str(r[0]), int(r[1]), NodeState(r[2]), str(r[3])) for r in rows}


def node_rows(tx: Tx) -> list[NodeRecord]:
    """All nodes there ever were, with their leases."""
    columns = (
        node.c.name,
        node.c.state,
        node.c.incarnation,
        node.c.address,
        node.c.version,
        node.c.started_at,
    )
    here = node.outerjoin(lease, (lease.c.name == node.c.name) & (lease.c.incarnation == node.c.incarnation))
    statement = select(*columns, lease.c.hb_seq, lease.c.inflight, lease.c.queued)
    rows = tx.execute(statement.select_from(here).order_by(node.c.name))
    return [
        NodeRecord(r[0], NodeState(r[1]), int(r[2]), r[3], r[4], r[5], r[6], int(r[7] or 0), int(r[8] or 0))
        for r in rows
    ]


def register(tx: Tx, me: Identity) -> int:
    """Enters a node that boots; returns its incarnation. An earlier one of the name is superseded: its slots go to
    this one under new epochs."""
    earlier = tx.execute(EARLIER, {"me": me.name}).first()
    values: dict[str, Any] = {
        "state": NodeState.JOINING,
        "address": me.address,
        "version": me.version,
        "label": me.label,
        "started_at": tx.now,
        "incarnation": 1 if earlier is None else int(earlier[0]) + 1,
    }
    incarnation = int(values["incarnation"])
    if earlier is None:
        tx.execute(REGISTER, values | {"name": me.name})
    else:
        end_sessions(tx, str(earlier[1]))
        tx.execute(REGISTER_AGAIN, values | {"me": me.name})
    tx.execute(LET_GO, {"me": me.name})
    tx.execute(LEASE, {"name": me.name, "incarnation": incarnation})
    kept = [slot.slot for slot in slot_rows(tx) if slot.owner == me.name]
    give(tx, kept, me.name, incarnation)
    fence_open_jobs(tx, kept)
    raise_version(tx)
    return incarnation


def set_state(tx: Tx, name: str, incarnation: int, before: Iterable[NodeState], after: NodeState) -> bool:
    values = {"me": name, "life": incarnation, "before": list(before), "state": after}
    return tx.execute(SET_STATE, values).rowcount == 1


def evicted(tx: Tx, name: str, incarnation: int) -> None:
    set_state(tx, name, incarnation, PRESENT, NodeState.EVICTED)


def drop_lease(tx: Tx, name: str, incarnation: int, hb_seq: int | None = None) -> bool:
    """False when it is not there, or when the node has moved since ``hb_seq`` was seen."""
    values = {"me": name, "life": incarnation}
    if hb_seq is None:
        return tx.execute(DROP, values).rowcount == 1
    return tx.execute(DROP_UNMOVED, values | {"seen": hb_seq}).rowcount == 1


def end_sessions(tx: Tx, label: str) -> None:
    """Ends all connections of a node's process: a paused one may hold locks that everybody else waits for."""
    if tx.dialect == "postgresql" and label:
        tx.execute(
            text(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                " and starts_with(application_name, :label) and pid <> pg_backend_pid()"
            ),
            {"label": label},
        )


# who works on what

_THESE: BindParameter[Any] = bindparam("these", expanding=True)
GIVE = (
    update(ring_slot)
    .where(ring_slot.c.slot.in_(_THESE))
    .values(owner=bindparam("heir"), incarnation=bindparam("life"), epoch=ring_slot.c.epoch + 1, target=None)
)
FENCE = (
    update(job)
    .where(job.c.state.in_(OPEN), job.c.slot.in_(_THESE))
    .values(fence=select(ring_slot.c.epoch).where(ring_slot.c.slot == job.c.slot).scalar_subquery())
)
AIM = update(ring_slot).where(ring_slot.c.slot.in_(_THESE)).values(target=bindparam("goal"))
RAISE_VERSION = update(cluster).values(ring_version=cluster.c.ring_version + 1)
VERSION = select(func.max(cluster.c.ring_version))


def slot_rows(tx: Tx) -> list[SlotRow]:
    rows = tx.execute(SLOT_ROWS)
    return [SlotRow(int(r[0]), r[1], int(r[2]), int(r[3]), r[4]) for r in rows]


def distribute(tx: Tx) -> list[int]:
    """Gives slots whose owner is gone to who should have them, and says where the others should go: nowhere, if there
    is nobody to go to. The caller holds the lock. Returns the slots that changed hands."""
    nodes = present(tx)
    up = [n.name for n in nodes.values() if n.state is NodeState.UP]
    orphans: defaultdict[str, list[int]] = defaultdict(list)
    targets: defaultdict[str | None, list[int]] = defaultdict(list)
    wanted: Sequence[str | None] = propose(up) if up else [None] * SLOTS
    for row in slot_rows(tx):
        owner, want = nodes.get(row.owner or ""), wanted[row.slot]
        orphan = owner is None or owner.incarnation != row.incarnation
        if orphan and want is not None:
            orphans[want].append(row.slot)
        elif not orphan and (target := None if want == row.owner else want) != row.target:
            targets[target].append(row.slot)
    for name, slots in orphans.items():
        give(tx, slots, name, nodes[name].incarnation)
    for name_, slots in targets.items():
        tx.execute(AIM, {"these": slots, "goal": name_})
    moved = [slot for slots in orphans.values() for slot in slots]
    fence_open_jobs(tx, moved)
    raise_version(tx)
    return moved


def give(tx: Tx, slots: Sequence[int], name: str, incarnation: int) -> None:
    """Makes a node the owner of slots, under new epochs."""
    if slots:
        tx.execute(GIVE, {"these": list(slots), "heir": name, "life": incarnation})


def moving(tx: Tx, owner: str, incarnation: int | None, slots: Iterable[int]) -> dict[str, list[int]]:
    """By target: those of the slots that ``owner`` (in this life of it, or in any) still has and is to give to a
    node that is up."""
    asked, nodes = set(slots), present(tx)
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row in slot_rows(tx):
        target = nodes.get(row.target or "")
        if row.slot not in asked or row.owner != owner or incarnation not in (None, row.incarnation):
            continue
        if target is not None and target.state is NodeState.UP:
            found[target.name].append(row.slot)
    return dict(found)


def owned(tx: Tx, owner: str, incarnation: int, slots: Iterable[int]) -> list[int]:
    """Those of the slots that this life of the node has."""
    asked = set(slots)
    rows = slot_rows(tx)
    return [r.slot for r in rows if r.slot in asked and (r.owner, r.incarnation) == (owner, incarnation)]


def move(tx: Tx, moves: Mapping[str, Sequence[int]]) -> None:
    """Gives slots to the nodes they are listed under. The caller holds the lock and has checked who has them."""
    nodes = present(tx)
    for name, slots in moves.items():
        give(tx, slots, name, nodes[name].incarnation)
    fence_open_jobs(tx, [slot for slots in moves.values() for slot in slots])
    raise_version(tx)


def fence_open_jobs(tx: Tx, slots: Sequence[int]) -> None:
    """Raises the fence of open jobs to their slot's epoch, so that an earlier owner's writes miss. Runs as a
    statement of its own after the slots moved: it must see the claims that committed meanwhile."""
    if slots:
        tx.execute(FENCE, {"these": list(slots)})


def raise_version(tx: Tx) -> None:
    tx.execute(RAISE_VERSION)


def view(tx: Tx) -> tuple[int, dict[int, SlotOwner], dict[str, int]]:
    """(ring version, who owns each slot and to whom it goes, the nodes and their incarnations)."""
    version = int(tx.execute(VERSION).scalar() or 0)
    owners = {row.slot: SlotOwner(row.owner, row.epoch, row.target) for row in slot_rows(tx)}
    return version, owners, {n.name: n.incarnation for n in present(tx).values()}
