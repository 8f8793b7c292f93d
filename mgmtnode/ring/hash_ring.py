"""Proposes which node should own each slot. A row in the database decides; this only says where it should
go."""

from __future__ import annotations

from collections.abc import Iterable

from uhashring import HashRing

from mgmtnode.ring.slots import SLOTS

VIRTUAL_NODES = 160


def propose(nodes: Iterable[str], slots: int = SLOTS) -> list[str]:
    """The node for each slot, by consistent hashing: one node more or less moves only its own share.

    Independent of the order of ``nodes``. Raises ValueError without nodes. A ring is built each time (1 ms),
    because the library's rings break when they are read while they change.
    """
    names = sorted(set(nodes))
    if not names:
        raise ValueError("no node to give the slots to")
    ring = HashRing(nodes=names, vnodes=VIRTUAL_NODES)
    return [ring.get_node(f"slot:{slot}") for slot in range(slots)]
