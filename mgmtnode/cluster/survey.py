"""The cluster as its operator sees it, and what an operator may do to a node, through whatever node or tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mgmtnode.cluster import repository
from mgmtnode.cluster.records import PRESENT, NodeState
from mgmtnode.db.session import Tx
from mgmtnode.ring.hash_ring import propose


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """``in_flight`` and ``queued``: jobs, as of its last heartbeat. ``hb_seq`` is None without a lease."""

    name: str
    state: NodeState
    incarnation: int
    address: str
    version: str
    started_at: datetime
    hb_seq: int | None
    in_flight: int
    queued: int
    slots: int = 0
    leaving: int = 0

    @property
    def present(self) -> bool:
        return self.state in PRESENT

    @property
    def up(self) -> bool:
        return self.state is NodeState.UP


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change of the nodes would move: slots by (from, to); ``owned`` is how many each would have."""

    moves: dict[tuple[str, str], int]
    owned: dict[str, int]


def survey(tx: Tx) -> list[NodeStatus]:
    """All nodes there ever were, by name."""
    slots = repository.slot_rows(tx)
    owned = Counter((slot.owner, slot.incarnation) for slot in slots)
    leaving = Counter((slot.owner, slot.incarnation) for slot in slots if slot.target is not None)
    return [
        NodeStatus(
            name=row.name,
            state=row.state,
            incarnation=row.incarnation,
            address=row.address,
            version=row.version,
            started_at=row.started_at,
            hb_seq=row.hb_seq,
            in_flight=row.in_flight,
            queued=row.queued,
            slots=owned[row.name, row.incarnation],
            leaving=leaving[row.name, row.incarnation],
        )
        for row in repository.node_rows(tx)
    ]


def drain(tx: Tx, name: str) -> bool:
    """Has a node hand over its slots; it hears of it with its next heartbeat. False if it is not up."""
    repository.lock(tx)
    node = repository.present(tx).get(name)
    if node is None or node.state is not NodeState.UP:
        return False
    repository.set_state(tx, name, node.incarnation, (NodeState.UP,), NodeState.DRAINING)
    repository.distribute(tx)
    return True


def evict(tx: Tx, name: str) -> bool:
    """Takes all work from a node, whether it lives or not. False if it is not in the cluster."""
    repository.lock(tx)
    node = repository.present(tx).get(name)
    if node is None:
        return False
    repository.drop_lease(tx, name, node.incarnation)
    repository.end_sessions(tx, node.label)
    repository.evicted(tx, name, node.incarnation)
    repository.distribute(tx)
    return True


def preview(tx: Tx, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Preview:
    """Where slots would go if these nodes came and those went. Raises ValueError if none would be left."""
    up = {name for name, node in repository.present(tx).items() if node.state is NodeState.UP}
    wanted = propose(up.union(add).difference(remove))
    rows = repository.slot_rows(tx)
    moves = Counter((row.owner or "-", wanted[row.slot]) for row in rows if row.owner != wanted[row.slot])
    return Preview(dict(moves), dict(Counter(wanted)))
