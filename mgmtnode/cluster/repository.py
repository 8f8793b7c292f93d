"""The only SQL on nodes and ring slots."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, case, func, insert, select, update

from mgmtnode.db.session import Tx
from mgmtnode.db.tables import cluster, job, node, ring_slot
from mgmtnode.jobs.repository import OPEN
from mgmtnode.ring.slots import SLOTS, SlotOwner


def found_cluster(tx: Tx, uuid: str) -> None:
    """Makes the cluster's row and its slots, once."""
    if tx.execute(select(cluster.c.id)).first() is None:
        tx.execute(insert(cluster).values(id=1, uuid=uuid, ring_version=0, db_generation=1))
        tx.execute(insert(ring_slot), [{"slot": slot} for slot in range(SLOTS)])


def lock_membership(tx: Tx) -> int:
    """Takes the mutex of membership changes; returns the ring version."""
    row = tx.execute(select(cluster.c.ring_version).where(cluster.c.id == 1).with_for_update()).one()
    return int(row[0])


def register(tx: Tx, name: str, address: str, version: str) -> int:
    """Enters a node under its name; returns its incarnation, one above any earlier one of that name."""
    values: dict[str, Any] = {"state": "UP", "address": address, "version": version, "started_at": tx.now}
    earlier = tx.execute(select(node.c.incarnation).where(node.c.name == name)).scalar()
    if earlier is None:
        tx.execute(insert(node).values(name=name, incarnation=1, **values))
        return 1
    tx.execute(update(node).where(node.c.name == name).values(incarnation=earlier + 1, **values))
    return int(earlier) + 1


def leave(tx: Tx, name: str, incarnation: int) -> None:
    where = (node.c.name == name) & (node.c.incarnation == incarnation)
    tx.execute(update(node).where(where, node.c.state == "UP").values(state="LEFT"))


def current(name: str) -> Select[tuple[int, str]]:
    """Asks for the incarnation that is known under a name, and its state."""
    return select(node.c.incarnation, node.c.state).where(node.c.name == name)


def take_all_slots(tx: Tx, name: str, incarnation: int) -> None:
    """Gives every slot to one node under a new epoch."""
    tx.execute(
        update(node)
        .where(node.c.name != name)
        .values(state=case((node.c.state == "UP", "EVICTED"), else_=node.c.state))
    )
    tx.execute(
        update(ring_slot).values(
            owner=name, incarnation=incarnation, epoch=ring_slot.c.epoch + 1, target=None
        )
    )
    tx.execute(update(cluster).values(ring_version=cluster.c.ring_version + 1))


def fence_open_jobs(tx: Tx) -> int:
    """Raises the fence of open jobs to their slot's epoch, so that an earlier owner's writes miss. Run this as a
    statement of its own after the slots moved: it must see the claims that committed meanwhile."""
    epoch = select(ring_slot.c.epoch).where(ring_slot.c.slot == job.c.slot).scalar_subquery()
    return tx.execute(update(job).where(job.c.state.in_(OPEN)).values(fence=epoch)).rowcount


def slots(tx: Tx) -> tuple[int, dict[int, SlotOwner]]:
    """(ring version, who owns each slot)."""
    version = int(tx.execute(select(func.max(cluster.c.ring_version))).scalar() or 0)
    rows = tx.execute(select(ring_slot.c.slot, ring_slot.c.owner, ring_slot.c.epoch))
    return version, {int(r[0]): SlotOwner(r[1], int(r[2])) for r in rows}
