"""One SELECT being put together: which tables of the graph it reads, joined how, filtered by what."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    bindparam,
    exists,
    false,
    literal_column,
    or_,
    select,
)

from mgmtnode.db import tables as core
from mgmtnode.db.resource import PUBLIC
from mgmtnode.query.graph import Edge, Field, Graph, Node

ME = "me"


class Stop:
    """One resource on the way. Its own table and its core row are joined only if a column of theirs is used.

    ``link`` is the column that holds its uuid one stop before. ``core_first``: the root's uuid is taken from
    the core table, so that its indexes can give the order.
    """

    def __init__(
        self, node: Node, number: int, *, link: ColumnElement[Any] | None = None, core_first: bool = False
    ):
        self.node = node
        self.link = link
        self._core_first = core_first and node.resource.backed
        self._own: FromClause = node.table.alias(f"t{number}")
        self._core: FromClause = core.resource.alias(f"r{number}")
        self.uses_own = self.uses_core = False

    @property
    def own(self) -> FromClause:
        self.uses_own = True
        return self._own

    @property
    def core(self) -> FromClause:
        self.uses_core = True
        return self._core

    @property
    def uuid(self) -> ColumnElement[Any]:
        if self.link is not None:
            return self.link
        return self.core.c.uuid if self._core_first else self.own.c[self.node.key]

    def column(self, field: Field) -> ColumnElement[Any]:
        assert field.column is not None
        if field.core:
            return self.core.c[field.column.name]
        if field.column.name == self.node.key:
            return self.uuid
        return self.own.c[field.column.name]

    def joined(self, before: FromClause | None, *, outer: bool) -> FromClause | None:
        """``before`` joined with what is used of this stop; with nothing before, what a SELECT starts
        from."""
        link = self.link
        for used, table, key in (
            (self.uses_own, self._own, self.node.key),
            (self.uses_core, self._core, "uuid"),
        ):
            if used and (before is None or link is None):
                before, link = table, table.c[key]
            elif used and before is not None:
                before, link = before.join(table, table.c[key] == link, isouter=outer), table.c[key]
        return before


class Scope:
    """A SELECT over the root type and all that is reached from it by forward references, each joined once.

    ``limited``: a caller sees only what is theirs or shared with them, at every stop. ``page`` is the start
    instead of the root type: its column ``key`` has uuids of the root, which are neither checked again nor
    lost; ``start`` is what it is part of.
    """

    def __init__(
        self,
        graph: Graph,
        root: Node,
        *,
        limited: bool,
        numbers: Iterator[int] | None = None,
        core_first: bool = False,
        page: FromClause | None = None,
        start: FromClause | None = None,
    ) -> None:
        self.graph, self.limited = graph, limited
        self.numbers = numbers or count()
        self.where: list[ColumnElement[bool]] = []
        self._page, self._start = page, page if start is None else start
        link = None if page is None else page.c.key
        self.root = Stop(root, next(self.numbers), link=link, core_first=core_first)
        self._stops: dict[tuple[str, ...], Stop] = {(): self.root}
        if page is None:
            self._limit(self.root)

    def stop(self, path: tuple[str, ...]) -> Stop:
        """The stop at the end of forward references ``path``."""
        found = self._stops.get(path)
        if found is None:
            before = self.stop(path[:-1])
            edge = before.node.edges[path[-1]]
            link = before.own.c[edge.near]
            found = self._stops[path] = Stop(self.graph[edge.target], next(self.numbers), link=link)
            self._limit(found)
        return found

    def inner(self, node: Node) -> Scope:
        """A scope for a subquery over ``node`` with table names of its own."""
        return Scope(self.graph, node, limited=self.limited, numbers=self.numbers)

    def select(self, *columns: Any) -> Select[Any]:
        """The SELECT, to be asked for when all columns it uses have been taken."""
        source = self._start
        for stop in self._stops.values():
            source = stop.joined(source, outer=self._page is not None)
        assert source is not None
        return select(*columns).select_from(source).where(*self.where, *self._types())

    def _types(self) -> list[ColumnElement[bool]]:
        """Says the type of each core row: redundant, but the core's indexes begin with it."""
        stops = (s for s in self._stops.values() if s.uses_core and self._page is None)
        return [s.core.c.type == literal_column(f"'{s.node.type}'") for s in stops]

    def _limit(self, stop: Stop) -> None:
        if self.limited:
            self.where.append(visible(stop))


def visible(stop: Stop) -> ColumnElement[bool]:
    """Whether the account in the parameter ``me`` sees a resource: its own, or shared with it or
    everybody."""
    me: Any = bindparam(ME)
    if stop.node.resource.backed:
        return _owned_or_shared(stop.core, me)
    if carrier := stop.node.table.info.get("visible_with"):
        row = core.resource.alias()
        found: Select[Any] = (
            select(literal_column("1")).select_from(row).where(row.c.uuid == stop.own.c[carrier])
        )
        return exists(found.where(_owned_or_shared(row, me)).correlate(stop.own))
    account = stop.node.table.c.get("account_uuid")
    return false() if account is None else stop.own.c.account_uuid == me


def _owned_or_shared(row: FromClause, me: Any) -> ColumnElement[bool]:
    share = core.share.alias()
    shared = exists(
        select(literal_column("1"))
        .select_from(share)
        .where(
            share.c.resource_uuid == row.c.uuid,
            share.c.account_uuid.in_([me, literal_column(f"'{PUBLIC}'")]),
        )
        .correlate(row)
    )
    return or_(row.c.account_uuid == me, shared)


def reach(outer: Stop, edge: Edge, inner: Scope) -> tuple[Select[Any], ColumnElement[Any]]:
    """The rows of ``inner`` at the far end of ``edge``, and their column with the uuid of ``outer``."""
    if edge.link is None:
        far = inner.root.own.c[edge.far]
        return inner.select(far), far
    link = edge.link.alias(f"l{next(inner.numbers)}")
    near_uuid = inner.root.uuid
    return inner.select(link.c[edge.far]).where(link.c[edge.near] == near_uuid), link.c[edge.far]
