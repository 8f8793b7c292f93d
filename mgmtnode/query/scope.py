"""One SELECT being put together: which tables of the graph it reads, joined how, filtered by what."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from itertools import count
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    FromClause,
    Select,
    and_,
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
ONE: ColumnElement[Any] = literal_column("1")


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


class Sees(Enum):
    """Whose resources a scope has. At its root, the visible ones can be had in two halves: each has an
    index."""

    ALL = "all"
    VISIBLE = "own or shared"
    OWN = "own"
    SHARED = "shared"


class Scope:
    """A SELECT over the root type and all that is reached from it by forward references, each joined once.

    Unless it ``sees`` all, a caller finds only what is theirs or shared with them, at every stop. ``page`` is
    the start instead of the root type: its column ``key`` has uuids of the root, which are neither checked
    again nor lost; ``start`` is what it is part of.
    """

    def __init__(
        self,
        graph: Graph,
        root: Node,
        *,
        sees: Sees,
        numbers: Iterator[int] | None = None,
        core_first: bool = False,
        page: FromClause | None = None,
        start: FromClause | None = None,
    ) -> None:
        self.graph = graph
        self.numbers = numbers or count()
        self.where: list[ColumnElement[bool]] = []
        self._sees = Sees.ALL if sees is Sees.ALL else Sees.VISIBLE
        self._page, self._start = page, page if start is None else start
        link = None if page is None else page.c.key
        self.root = Stop(root, next(self.numbers), link=link, core_first=core_first)
        self._stops: dict[tuple[str, ...], Stop] = {(): self.root}
        self._shared = sees is Sees.SHARED
        if page is None:
            self._limit(self.root, sees)

    def stop(self, path: tuple[str, ...]) -> Stop:
        """The stop at the end of forward references ``path``."""
        found = self._stops.get(path)
        if found is None:
            before = self.stop(path[:-1])
            edge = before.node.edges[path[-1]]
            link = before.own.c[edge.near]
            found = self._stops[path] = Stop(self.graph[edge.target], next(self.numbers), link=link)
            if before.node.table.c[edge.near].nullable:
                self.where.append(link.is_not(None))  # there may be no join to say so
            self._limit(found, self._sees)
        return found

    def inner(self, node: Node) -> Scope:
        """A scope for a subquery over ``node`` with table names of its own."""
        return Scope(self.graph, node, sees=self._sees, numbers=self.numbers)

    def select(self, *columns: Any) -> Select[Any]:
        """The SELECT, to be asked for when all columns it uses have been taken."""
        source = self._start
        for stop in self._stops.values():
            source = stop.joined(source, outer=self._page is not None)
        assert source is not None
        return select(*columns).select_from(source).where(*self.where, *self._types())

    def _types(self) -> list[ColumnElement[bool]]:
        """Says the type of each core row: redundant where its own table is joined, but the core's indexes
        begin with it. Not so for what is shared: it is to be looked up one by one, not in an index of the
        type."""
        stops = [s for s in self._stops.values() if s.uses_core and self._page is None]
        if self._shared:
            stops.remove(self.root)
        return [s.core.c.type == literal_column(f"'{s.node.type}'") for s in stops]

    def _limit(self, stop: Stop, sees: Sees) -> None:
        if sees is Sees.ALL:
            return
        if stop.node.resource.backed:
            self.where.append(_seen(stop.core, sees))
            stop.uses_own |= sees is Sees.SHARED
            return
        self.where.append(_seen_plain(stop))


def _seen(row: FromClause, sees: Sees) -> ColumnElement[bool]:
    """Whether the account in the parameter ``me`` has the resource, or it is shared with it or with
    everybody."""
    me: BindParameter[Any] = bindparam(ME)
    share = core.share.alias()
    theirs = row.c.account_uuid == me
    with_me = share.c.account_uuid.in_([me, literal_column(f"'{PUBLIC}'")])
    if sees is Sees.OWN:
        return theirs
    if sees is Sees.SHARED:
        return and_(row.c.account_uuid != me, row.c.uuid.in_(select(share.c.resource_uuid).where(with_me)))
    shares: Select[Any] = select(ONE).where(share.c.resource_uuid == row.c.uuid, with_me)
    return or_(theirs, exists(shares.correlate(row)))


def _seen_plain(stop: Stop) -> ColumnElement[bool]:
    """Whether a row that is no resource is seen: with the resource its table says it belongs to, or by its
    account."""
    if carrier := stop.node.table.info.get("visible_with"):
        row = core.resource.alias()
        seen: Select[Any] = select(ONE).where(row.c.uuid == stop.own.c[carrier], _seen(row, Sees.VISIBLE))
        return exists(seen.correlate(stop.own))
    account = stop.node.table.c.get("account_uuid")
    return false() if account is None else stop.own.c.account_uuid == bindparam(ME)


def reach(outer: Stop, edge: Edge, inner: Scope) -> tuple[Select[Any], ColumnElement[Any]]:
    """The rows of ``inner`` at the far end of ``edge``, and their column with the uuid of ``outer``."""
    if edge.link is None:
        far = inner.root.own.c[edge.far]
        return inner.select(far), far
    link = edge.link.alias(f"l{next(inner.numbers)}")
    near_uuid = inner.root.uuid
    return inner.select(link.c[edge.far]).where(link.c[edge.near] == near_uuid), link.c[edge.far]
