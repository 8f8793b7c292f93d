"""What the database says of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class NodeState(StrEnum):
    """JOINING: boots, has slots only if it had them in an earlier life. DRAINING: gives its slots away."""

    JOINING = "JOINING"
    UP = "UP"
    DRAINING = "DRAINING"
    LEFT = "LEFT"
    EVICTED = "EVICTED"


PRESENT = (NodeState.JOINING, NodeState.UP, NodeState.DRAINING)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is. ``label`` begins the application_name of all its database connections."""

    name: str
    address: str
    version: str
    label: str


class LeaseRow(NamedTuple):
    """``locked``: the node's heartbeat connection is there (PostgreSQL; always true elsewhere). ``queued`` and
    ``inflight``: jobs that wait and that run there."""

    name: str
    incarnation: int
    hb_seq: int
    state: NodeState
    inflight: int
    queued: int
    locked: bool


class Beat(NamedTuple):
    """The answer to one heartbeat. ``server_age``: seconds since the database server started."""

    renewed: bool
    ring_version: int
    leases: list[LeaseRow]
    server_age: float

    def state_of(self, name: str) -> NodeState | None:
        return next((lease.state for lease in self.leases if lease.name == name), None)
