"""What the deletion of a resource does to the resources that refer to it: declared by the services that own them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgmtnode.bus.message import ApiJob, DeleteJob
from mgmtnode.cascade.repository import empty_column, referring
from mgmtnode.db.session import Tx
from mgmtnode.errors import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy import Table


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

    ``refuse(tx, doomed)`` raises to veto a deletion that is not forced, before anything is done. Lower ``wave`` first:
    what uses a thing goes before the thing.
    """

    child: str
    column: str
    parent: str
    act: Callable[[Doomed], ApiJob[Any]] | None = None
    nullify: bool = False
    refuse: Callable[[Tx, Doomed], None] | None = None
    wave: int = 1


class CascadeGraph:
    """All declared rules, by parent type, over the tables of the services that declared them."""

    def __init__(self, rules: Iterable[OnDelete], tables: Iterable[Table] = ()) -> None:
        self._tables = {table.name: table for table in tables}
        self._by_parent: dict[str, list[OnDelete]] = {}
        for rule in rules:
            if (rule.act is None) is not rule.nullify:
                raise DeclarationError(f"cascade {rule.child}.{rule.column}: give either act or nullify")
            self._by_parent.setdefault(rule.parent, []).append(rule)

    def waves(self, kind: str) -> list[int]:
        """The waves in which what is below a resource of this kind goes."""
        return sorted({rule.wave for rule in self._by_parent.get(kind, ()) if rule.act is not None})

    def work(self, tx: Tx, doomed: Doomed, kind: str, wave: int) -> list[tuple[str, ApiJob[Any]]]:
        """The jobs of one wave, as (key, message), that must end before the resource ``doomed`` can go."""
        found: list[tuple[str, ApiJob[Any]]] = []
        for rule in self._by_parent.get(kind, ()):
            if rule.act is None or rule.wave != wave:
                continue
            for child, parent in referring(tx, self._tables[rule.child], rule.column, [doomed.uuid]):
                message = rule.act(Doomed(child, parent, doomed.root, doomed.force))
                found.append((f"{message.api.name}:{child}", message))
        return found

    def check(self, tx: Tx, kind: str, uuid: str, *, root: str) -> None:
        """Asks every rule below whether it minds. ``root``: the type where the deletion began. Raises the first
        veto."""
        for _ in self._down(tx, kind, uuid, root=root, force=False, ask=True):
            pass

    def below(
        self, tx: Tx, kind: str, uuid: str, *, root: str, force: bool
    ) -> list[tuple[str, str, ApiJob[Any]]]:
        """What becomes of each resource below, those nearest first: (type, uuid, the job that it gets)."""
        found: dict[str, tuple[str, str, ApiJob[Any]]] = {}
        for child_kind, child, job in self._down(tx, kind, uuid, root=root, force=force, ask=False):
            if child not in found or isinstance(job, DeleteJob):  # two roads may lead to it
                found[child] = child_kind, child, job
        return list(found.values())

    def _down(
        self, tx: Tx, kind: str, uuid: str, *, root: str, force: bool, ask: bool
    ) -> Iterator[tuple[str, str, ApiJob[Any]]]:
        """Level by level, one query a rule, and through no resource twice: references may form a circle."""
        level, seen = {kind: [uuid]}, {uuid}
        while level:
            deleted: dict[str, list[str]] = {}
            for parent_kind, parents in level.items():
                for rule in self._by_parent.get(parent_kind, ()):
                    for child, job in self._ask(tx, rule, parents, root=root, force=force, ask=ask):
                        yield self._type(rule), child, job
                        if isinstance(job, DeleteJob) and child not in seen:
                            seen.add(child)
                            deleted.setdefault(rule.child, []).append(child)
            level = deleted

    def detach(self, tx: Tx, kind: str, uuid: str) -> None:
        """Empties the columns that are emptied rather than followed."""
        for rule in self._by_parent.get(kind, ()):
            if rule.nullify:
                empty_column(tx, self._tables[rule.child], rule.column, uuid)

    def _ask(
        self, tx: Tx, rule: OnDelete, parents: list[str], *, root: str, force: bool, ask: bool
    ) -> Iterator[tuple[str, ApiJob[Any]]]:
        """The children and what they get; with ``ask``, the rule may refuse each."""
        if rule.act is None:
            return
        for child, parent in referring(tx, self._tables[rule.child], rule.column, parents):
            doomed = Doomed(child, parent, root, force)
            if ask and rule.refuse:
                rule.refuse(tx, doomed)
            yield child, rule.act(doomed)

    def _type(self, rule: OnDelete) -> str:
        return str(self._tables[rule.child].info.get("resource_type", rule.child))
