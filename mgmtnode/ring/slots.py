"""Slots: every resource falls into one of 1024, and each slot has one owner, the node that works on what is
in it."""

from __future__ import annotations

from collections import Counter
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
    """Who has a slot. The epoch grows with each change of owner, and fences the one before. ``target``: the node that
    the owner is to hand it to."""

    owner: str | None
    epoch: int = 0
    target: str | None = None


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

    def own_slots(self) -> tuple[int, ...]:
        return self._view.own

    def own(self) -> tuple[int, ...] | None:
        """This node's slots; None when it has them all."""
        return None if len(self._view.own) == SLOTS else self._view.own

    def leaving(self) -> list[int]:
        """This node's slots that it is to hand over."""
        owners = self._view.owners
        return [slot for slot in self._view.own if owners[slot].target is not None]

    def coming(self) -> dict[str, list[int]]:
        """By owner: the slots that are to be handed to this node."""
        found: dict[str, list[int]] = {}
        for slot, owner in enumerate(self._view.owners):
            if owner.target == self.me and owner.owner is not None:
                found.setdefault(owner.owner, []).append(slot)
        return found

    def owned(self) -> Mapping[str, int]:
        """How many slots each node has."""
        return Counter(owner.owner for owner in self._view.owners if owner.owner is not None)

    def replace(
        self,
        mapping: Mapping[int, tuple[str | None, int] | tuple[str | None, int, str | None]],
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
