"""The SQL of a read: written once for each shape of a query, then only given other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BindParameter, Connection, FromClause, Subquery, bindparam, func, literal_column, true
from sqlalchemy.engine import Dialect

from mgmtnode.query.conditions import Conditions, Shape
from mgmtnode.query.graph import Graph
from mgmtnode.query.order import Order, after, ordered
from mgmtnode.query.rows import Reader, Selection
from mgmtnode.query.scope import Scope


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
    found = _found(graph, plan, dialect)
    if not plan.bounded:
        keys = [found.root.column(found.root.node.fields[name]) for name, _ in plan.order]
        return _compiled(found, keys, plan, dialect)
    page = _page(found, plan, dialect)
    start: FromClause = page
    if plan.count:
        start = _total(graph, plan, dialect).outerjoin(page, true())
    scope = Scope(graph, found.root.node, limited=plan.limited, page=page, start=start)
    return _compiled(scope, [page.c[name] for name in _labels(plan)], plan, dialect)


def _found(graph: Graph, plan: Plan, dialect: Dialect) -> Scope:
    """What meets the conditions and comes after the cursor."""
    node = graph[plan.type]
    core_first = bool(plan.order) and node.fields[plan.order[0][0]].core
    scope = Scope(graph, node, limited=plan.limited, core_first=core_first)
    conditions = Conditions(dialect.name)
    for index, shape in enumerate(plan.conditions):
        conditions.add(scope, index, shape)
    if plan.one:
        one: BindParameter[Any] = bindparam("one")
        scope.where.append((scope.root.uuid if plan.one == "uuid" else scope.root.core.c[plan.one]) == one)
    if plan.after:
        scope.where.append(after(scope.root, plan.order, plan.after))
    return scope


def _page(found: Scope, plan: Plan, dialect: Dialect) -> Subquery:
    """The keys of one page. The rows are read afterwards: a sort then moves keys only, and reads a page of
    rows."""
    root = found.root
    keys = [root.column(root.node.fields[name]) for name, _ in plan.order]
    labelled = [key.label(label) for key, label in zip(keys, _labels(plan), strict=True)]
    body = found.select(*labelled).order_by(*ordered(keys, root.node, plan.order, dialect))
    return body.limit(bindparam("limit")).subquery("page")


def _labels(plan: Plan) -> list[str]:
    return [f"k{place}" for place in range(len(plan.order) - 1)] + ["key"]


def _total(graph: Graph, plan: Plan, dialect: Dialect) -> Subquery:
    """The number of all that meets the conditions: one row, also where the page itself has none."""
    scope = _found(graph, replace(plan, after=()), dialect)
    _ = scope.root.uuid  # the column by which the root's table is taken
    return scope.select(func.count().label("total")).subquery("counted")


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
