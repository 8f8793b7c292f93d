"""What the deletion of a resource does to the resources that refer to it: declared by the services that own them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mgmtnode.bus.message import ApiJob, DeleteJob
from mgmtnode.cascade.repository import empty_column, referring
from mgmtnode.db.session import Tx
from mgmtnode.errors import INVALID

MAX_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Doomed:
    """One child of a resource that is being deleted. ``root`` is the type where the deletion began."""

    uuid: str
    parent_uuid: str
    root: str
    force: bool


@dataclass(frozen=True, slots=True)
class OnDelete:
    """``column`` of table ``child`` refers to ``parent``. When a parent is deleted, each child gets the job that
    ``act`` returns, or, with ``nullify``, its column is emptied in the parent's last transaction.

    ``refuse(tx, doomed)`` raises to veto a deletion that is not forced, before anything is done.
    """

    child: str
    column: str
    parent: str
    act: Callable[[Doomed], ApiJob[Any]] | None = None
    nullify: bool = False
    refuse: Callable[[Tx, Doomed], None] | None = None


class CascadeGraph:
    """All declared rules, by parent type."""

    def __init__(self, rules: Iterable[OnDelete]) -> None:
        self._by_parent: dict[str, list[OnDelete]] = {}
        for rule in rules:
            if (rule.act is None) is not rule.nullify:
                raise INVALID.error(f"cascade {rule.child}.{rule.column}: give either act or nullify")
            self._by_parent.setdefault(rule.parent, []).append(rule)

    def work(self, tx: Tx, kind: str, uuid: str, *, root: str, force: bool) -> list[tuple[str, ApiJob[Any]]]:
        """The jobs, as (key, message), that must end before the resource can go."""
        found: list[tuple[str, ApiJob[Any]]] = []
        for rule in self._by_parent.get(kind, ()):
            if rule.act is None:
                continue
            for child in referring(tx, rule.child, rule.column, uuid):
                message = rule.act(Doomed(child, uuid, root, force))
                found.append((f"{message.api.name}:{child}", message))
        return found

    def check(self, tx: Tx, kind: str, uuid: str) -> None:
        """Asks every rule below whether it minds. Raises the first veto."""
        self._check(tx, kind, uuid, kind, 0)

    def detach(self, tx: Tx, kind: str, uuid: str) -> None:
        """Empties the columns that are emptied rather than followed."""
        for rule in self._by_parent.get(kind, ()):
            if rule.nullify:
                empty_column(tx, rule.child, rule.column, uuid)

    def _check(self, tx: Tx, kind: str, uuid: str, root: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            return
        for rule in self._by_parent.get(kind, ()):
            if rule.act is None:
                continue
            for child in referring(tx, rule.child, rule.column, uuid):
                doomed = Doomed(child, uuid, root, False)
                if rule.refuse:
                    rule.refuse(tx, doomed)
                if isinstance(rule.act(doomed), DeleteJob):
                    self._check(tx, rule.child, child, root, depth + 1)
