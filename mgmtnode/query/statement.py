"""The SQL of a read: written once for each shape of a query, then only given other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Subquery,
    bindparam,
    func,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.engine import Dialect

from mgmtnode.query.conditions import Conditions, Shape
from mgmtnode.query.graph import Graph, Node
from mgmtnode.query.order import Order, after, ordered
from mgmtnode.query.rows import Reader, Selection
from mgmtnode.query.scope import Scope, Sees


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the SQL depends on.

    ``order``: fields and whether they descend, the key last. ``after``: of each, whether the cursor's value
    is null. ``fields`` empty means the whole inventory. ``one``: the core column by which a single resource
    is asked for. ``limited``: only what the caller sees. ``bounded``: has a limit.
    """

    type: str
    conditions: tuple[Shape, ...] = ()
    order: Order = ()
    after: tuple[bool, ...] = ()
    fields: tuple[str, ...] = ()
    one: str = ""
    limited: bool = False
    bounded: bool = False
    count: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """Compiled SQL. ``sort_places``: where in a row the values of the order are; a total comes last."""

    sql: str
    fixed: Mapping[str, Any]
    positions: tuple[str, ...] | None
    reader: Reader
    sort_places: tuple[int, ...]

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Runs it without SQLAlchemy's compilation and row processing: they cost more than the database."""
        named = {**self.fixed, **values}
        params: Any = named if self.positions is None else tuple([named[name] for name in self.positions])
        cursor = connection.exec_driver_sql(self.sql, params)
        return cursor.cursor.fetchall()


def write(graph: Graph, plan: Plan, dialect: Dialect) -> Statement:
    """The statement for ``plan``."""
    sees = Sees.VISIBLE if plan.limited else Sees.ALL
    if not plan.bounded:
        found = _found(graph, plan, dialect, sees)
        return _compiled(found, _keys(found, plan), plan, dialect)
    page = _page(graph, plan, dialect)
    start: FromClause = page
    if plan.count:
        start = _total(graph, plan, dialect).outerjoin(page, true())
    scope = Scope(graph, graph[plan.type], sees=sees, page=page, start=start)
    return _compiled(scope, [page.c[name] for name in _labels(plan)], plan, dialect)


def _found(graph: Graph, plan: Plan, dialect: Dialect, sees: Sees) -> Scope:
    """What meets the conditions and comes after the cursor."""
    node = graph[plan.type]
    scope = Scope(graph, node, sees=sees, core_first=_core_first(node, plan))
    conditions = Conditions(dialect.name)
    for index, shape in enumerate(plan.conditions):
        conditions.add(scope, index, shape)
    if plan.one:
        one: BindParameter[Any] = bindparam("one")
        scope.where.append((scope.root.uuid if plan.one == "uuid" else scope.root.core.c[plan.one]) == one)
    if plan.after:
        scope.where.append(after(scope.root, plan.order, plan.after))
    return scope


def _core_first(node: Node, plan: Plan) -> bool:
    """Whether an index of the core table can give rows in the order of the page."""
    fields = [*plan.order[:1], *((name, False) for path, name, *_ in plan.conditions if not path)]
    usable = node.usable()
    return plan.limited or any(usable[name].core for name, _ in fields if name in usable)


def _page(graph: Graph, plan: Plan, dialect: Dialect) -> Subquery:
    """The keys of one page. The rows are read afterwards: a sort moves keys only, and few rows are read."""
    node = graph[plan.type]
    halves = [_keys_found(_found(graph, plan, dialect, half), plan, dialect) for half in _halves(node, plan)]
    if len(halves) == 1:
        return halves[0].subquery("page")
    both = union_all(*(select(half.subquery()) for half in halves)).subquery("both")
    keys = [both.c[label] for label in _labels(plan)]
    ends = select(both).order_by(*ordered(keys, node, plan.order, dialect))
    return ends.limit(bindparam("limit")).subquery("page")


def _halves(node: Node, plan: Plan) -> tuple[Sees, ...]:
    if not plan.limited:
        return (Sees.ALL,)
    return (Sees.OWN, Sees.SHARED) if node.resource.backed else (Sees.VISIBLE,)


def _keys_found(found: Scope, plan: Plan, dialect: Dialect) -> Select[Any]:
    keys = _keys(found, plan)
    labelled = [key.label(label) for key, label in zip(keys, _labels(plan), strict=True)]
    body = found.select(*labelled).order_by(*ordered(keys, found.root.node, plan.order, dialect))
    return body.limit(bindparam("limit"))


def _keys(found: Scope, plan: Plan) -> list[ColumnElement[Any]]:
    return [found.root.column(found.root.node.fields[name]) for name, _ in plan.order]


def _labels(plan: Plan) -> list[str]:
    return [f"k{place}" for place in range(len(plan.order) - 1)] + ["key"]


def _total(graph: Graph, plan: Plan, dialect: Dialect) -> Subquery:
    """The number of all that meets the conditions: one row, also where the page itself has none."""
    counts: list[ColumnElement[Any]] = []
    for half in _halves(graph[plan.type], plan):
        scope = _found(graph, replace(plan, after=()), dialect, half)
        _ = scope.root.uuid  # the column by which the root's table is taken
        counts.append(scope.select(func.count()).scalar_subquery())
    total = counts[0] if len(counts) == 1 else counts[0] + counts[1]
    return select(total.label("total")).subquery("counted")


def _compiled(scope: Scope, keys: list[Any], plan: Plan, dialect: Dialect) -> Statement:
    node = scope.root.node
    selection = Selection(scope, dialect)
    names = plan.fields or node.resource.inventory.__struct_fields__
    reader = selection.reader(names, partial=bool(plan.fields))
    places = tuple(selection.place(node.fields[name]) for name, _ in plan.order)
    columns = [*selection.columns, *([literal_column("counted.total")] if plan.count else [])]
    body = scope.select(*columns).order_by(*ordered(keys, node, plan.order, dialect))
    compiled: Any = body.compile(dialect=dialect)
    positions = tuple(compiled.positiontup) if compiled.positiontup is not None else None
    return Statement(str(compiled), dict(compiled.params), positions, reader, places)
