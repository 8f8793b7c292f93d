"""Slots: every resource falls into one of 1024, and each slot has one owner, the node that works on what is
in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import md5
from types import MappingProxyType
from typing import NamedTuple

SLOTS = 1024


@lru_cache(maxsize=65536)
def slot_of(uuid: str) -> int:
    """The slot of a resource; the same on every node and in every release."""
    return int.from_bytes(md5(uuid.encode(), usedforsecurity=False).digest()[-2:], "big") % SLOTS


class SlotOwner(NamedTuple):
    """Who has a slot. The epoch grows with each change of owner, and fences the one before."""

    owner: str | None
    epoch: int = 0


NOBODY = SlotOwner(None)


@dataclass(frozen=True, slots=True)
class _View:
    owners: tuple[SlotOwner, ...]
    own: tuple[int, ...]
    nodes: Mapping[str, int]
    version: int


class Slots:
    """What this node knows of the ring: who owns which slot, and which nodes are there, with their
    incarnations.

    A copy of what the database says, replaced whole. It may be stale: that costs a forward, never
    correctness.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self._view = _View((NOBODY,) * SLOTS, (), MappingProxyType({}), 0)
        self._listeners: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        return self._view.version

    @property
    def nodes(self) -> Mapping[str, int]:
        """The nodes of the cluster and their incarnations."""
        return self._view.nodes

    def owner(self, slot: int) -> str | None:
        return self._view.owners[slot].owner

    def epoch(self, slot: int) -> int:
        return self._view.owners[slot].epoch

    def mine(self, uuid: str) -> bool:
        return self._view.owners[slot_of(uuid)].owner == self.me

    def own(self) -> tuple[int, ...] | None:
        """This node's slots; None when it has them all."""
        return None if len(self._view.own) == SLOTS else self._view.own

    def replace(
        self,
        mapping: Mapping[int, tuple[str | None, int]],
        version: int,
        nodes: Mapping[str, int] | None = None,
    ) -> bool:
        """Swaps the whole view, and tells the listeners. Slots that are not in ``mapping`` have no owner.
        ``nodes``: who is in the cluster, with incarnations; without it, whoever owns a slot (incarnation 0).
        A view older than the one known changes nothing and answers False."""
        if version < self._view.version:
            return False
        owners = tuple(SlotOwner(*mapping.get(slot, NOBODY)) for slot in range(SLOTS))
        if nodes is None:
            nodes = {o.owner: 0 for o in owners if o.owner is not None}
        own = tuple(slot for slot, o in enumerate(owners) if o.owner == self.me)
        self._view = _View(owners, own, MappingProxyType(dict(nodes)), version)
        for listener in self._listeners:
            listener()
        return True

    def on_change(self, listener: Callable[[], None]) -> None:
        """``listener`` is called after each replacement, on the thread that replaced. It must not raise."""
        self._listeners.append(listener)
