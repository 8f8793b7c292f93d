"""Reads of resources: one by uuid, all that match, or page by page. One SQL statement for each call."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table

from mgmtnode.errors import NO_HANDLER, NOT_FOUND
from mgmtnode.query import cursor as cursors
from mgmtnode.query.conditions import parameters
from mgmtnode.query.describe import ResourceDescription, describe
from mgmtnode.query.errors import BAD_LIMIT, BAD_SORT, UNKNOWN_FIELD, shown, unknown
from mgmtnode.query.grammar import Condition, check_text, parse
from mgmtnode.query.graph import Node, build_graph
from mgmtnode.query.kinds import UUID
from mgmtnode.query.order import Order
from mgmtnode.query.statement import Plan, Statement, write
from mgmtnode.schema import Resource

if TYPE_CHECKING:
    from mgmtnode.db.session import Tx
    from mgmtnode.jobs.job import Caller

MAX_LIMIT = 1000
MAX_SORT = 4
STATEMENTS = 1024
NAMEABLE = re.compile(r"[^\0\ud800-\udfff]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Page:
    """``items`` are inventories, or dicts if fields were chosen. ``next_cursor`` is None on the last page;
    ``total`` is None unless it was asked for."""

    items: list[Any] = field(default_factory=list)
    next_cursor: str | None = None
    total: int | None = None


class Query:
    """Reads over all resources whose tables are here, built once at boot.

    ``resources`` are all that contracts declare; those without a table belong to services that are not
    enabled, and ``known`` names further such types. Raises GraphError for bad declarations. In all reads,
    without ``caller``, or for an administrator, everything is seen; others see what is theirs or shared with
    them. Conditions and the like raise the errors of ``mgmtnode.query.errors``.
    """

    def __init__(
        self,
        resources: Sequence[Resource],
        tables: Sequence[Table],
        *,
        known: Collection[str] = (),
    ) -> None:
        self.graph = build_graph(resources, tables, known=known)
        self._statement = lru_cache(STATEMENTS)(partial(write, self.graph))

    def get(self, tx: Tx, kind: Resource, uuid: str, caller: Caller | None = None) -> Any:
        """One resource, by name too where the kind's names are unique. Raises core.not-found."""
        by = "uuid" if UUID.match(uuid) else "unique_name"
        if by == "uuid" or (kind.unique_name and NAMEABLE.match(uuid)):
            plan = Plan(self._node(kind).type, one=by, limited=_limited(caller))
            statement = self._statement(plan, tx.connection.dialect)
            rows = statement.rows(tx.connection, {"one": uuid, "me": caller.account_uuid if caller else None})
            if rows:
                return statement.reader.item(rows[0])
        raise NOT_FOUND.error(f"there is no {kind.type} {shown(uuid)}", resource=uuid[:255])

    def find(
        self,
        tx: Tx,
        kind: Resource,
        *conditions: str,
        caller: Caller | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> list[Any]:
        """All inventories that meet the conditions, or the first ``limit`` of them."""
        ask = self._ask(kind, conditions, sort or "")
        plan = ask.plan(limited=_limited(caller), bounded=limit is not None)
        statement, values = self._prepare(tx, plan, ask, caller)
        rows = statement.rows(tx.connection, values | {"limit": limit})
        return statement.reader.items(rows)

    def page(
        self,
        tx: Tx,
        kind: Resource,
        conditions: Sequence[str] = (),
        *,
        caller: Caller | None = None,
        sort: str = "",
        limit: int = 100,
        cursor: str = "",
        fields: Sequence[str] = (),
        count: bool = False,
    ) -> Page:
        """At most ``limit`` items (1 to 1000) after ``cursor``, in the order of ``sort`` and then of uuids.

        ``sort``: comma-separated fields, each with ``-`` to descend; null counts as the greatest value.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
            raise BAD_LIMIT.error(f"a page has 1 to {MAX_LIMIT} items, not {limit!r:.40}")
        ask = self._ask(kind, conditions, sort)
        print_ = cursors.fingerprint(kind.type, conditions, ask.order)
        ordered = [ask.node.fields[name] for name, _ in ask.order]
        marks = cursors.decode(cursor, print_, ordered) if cursor else []
        chosen = _chosen(ask.node, fields)
        plan = ask.plan(limited=_limited(caller), bounded=True, fields=chosen, count=count, marks=marks)
        statement, values = self._prepare(tx, plan, ask, caller)
        at = {f"k{place}": mark for place, mark in enumerate(marks)}
        rows = statement.rows(tx.connection, _bindable(tx, values | at | {"limit": limit + 1}))
        total = rows[0][-1] if count else None
        if count and rows[0][statement.sort_places[-1]] is None:
            rows = []  # the row is there only to carry the total
        following = None
        if len(rows) > limit:
            last = [rows[limit - 1][place] for place in statement.sort_places]
            following = cursors.encode(print_, last, ordered)
        return Page(statement.reader.items(rows[:limit]), following, total)

    def describe(self) -> dict[str, ResourceDescription]:
        """What can be asked, by resource type: for documents and command lines."""
        return describe(self.graph)

    def _node(self, kind: Resource) -> Node:
        node = self.graph.get(kind.type)
        if node is None:
            raise NO_HANDLER.error(f"no service on this node has resources of type {kind.type}")
        return node

    def _ask(self, kind: Resource, conditions: Sequence[str], sort: str) -> _Ask:
        node = self._node(kind)
        return _Ask(node, parse(self.graph, node, conditions), _order(node, sort))

    def _prepare(
        self, tx: Tx, plan: Plan, ask: _Ask, caller: Caller | None
    ) -> tuple[Statement, dict[str, Any]]:
        values: dict[str, Any] = {"me": caller.account_uuid if caller else None}
        for index, condition in enumerate(ask.conditions):
            values.update(parameters(index, condition))
        return self._statement(plan, tx.connection.dialect), _bindable(tx, values)


@dataclass(frozen=True, slots=True)
class _Ask:
    """A query as parsed."""

    node: Node
    conditions: list[Condition]
    order: Order

    def plan(
        self,
        *,
        limited: bool,
        bounded: bool,
        fields: tuple[str, ...] = (),
        count: bool = False,
        marks: Sequence[Any] = (),
    ) -> Plan:
        return Plan(
            self.node.type,
            conditions=tuple(c.shape for c in self.conditions),
            order=self.order,
            after=tuple(mark is None for mark in marks),
            fields=fields,
            limited=limited,
            bounded=bounded,
            count=count,
        )


def _limited(caller: Caller | None) -> bool:
    return caller is not None and not caller.admin


def _bindable(tx: Tx, values: dict[str, Any]) -> dict[str, Any]:
    """Times as SQLite keeps them; the other values go to both drivers as they are."""
    if tx.dialect != "sqlite":
        return values
    return {k: _stamp(v) if isinstance(v, datetime) else v for k, v in values.items()}


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _order(node: Node, sort: str) -> Order:
    """The fields of ``sort``, then the key. Raises query.bad-sort."""
    order: dict[str, bool] = {}
    known = {name for name, f in node.fields.items() if f.column is not None and f.kind.sortable}
    for word in check_text(sort, "sort").split(",") if sort else ():
        name = word.strip().removeprefix("-")
        if name not in known:
            raise unknown(BAD_SORT, f"{node.type} cannot be sorted by {shown(name)}", name, known)
        order.setdefault(name, word.strip().startswith("-"))
    if len(order) > MAX_SORT:
        raise BAD_SORT.error(f"a sort has at most {MAX_SORT} fields")
    down = next(reversed(order.values()), False)
    order.setdefault(node.key, down)
    terms = list(order.items())
    return tuple(terms[: list(order).index(node.key) + 1])  # nothing is left to order after the key


def _chosen(node: Node, fields: Sequence[str]) -> tuple[str, ...]:
    for name in fields:
        if check_text(name, "field") not in node.fields:
            raise unknown(UNKNOWN_FIELD, f"{node.type} has no field {shown(name)}", name, node.fields)
    return tuple(dict.fromkeys(fields))
