"""The SQL of a page or a single read: written once for each shape of a query, then only given other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.engine import Dialect

from mgmtnode.query.conditions import Conditions, Shape
from mgmtnode.query.graph import Graph, Node
from mgmtnode.query.rows import Reader, Selection
from mgmtnode.query.scope import Scope

Order = tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the SQL depends on. ``order`` are fields and whether they descend, the key last; ``after`` says for
    each whether the cursor's value is null; ``fields`` empty means the whole inventory."""

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
    """Compiled SQL. ``sort_places``: where in a row the values of the order are; the total, if any, comes last."""

    sql: str
    fixed: Mapping[str, Any]
    positions: tuple[str, ...] | None
    reader: Reader
    sort_places: tuple[int, ...]

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Runs it past SQLAlchemy's own compilation and row processing, which would cost more than the database."""
        named = {**self.fixed, **values}
        params: Any = named if self.positions is None else tuple([named[name] for name in self.positions])
        cursor = connection.exec_driver_sql(self.sql, params)
        return cursor.cursor.fetchall()  # type: ignore[union-attr]  # a SELECT has a cursor


def write(graph: Graph, plan: Plan, dialect: Dialect) -> Statement:
    """The statement for ``plan``."""
    node = graph[plan.type]
    scope = Scope(graph, node, limited=plan.limited, core_first=_core_first(node, plan))
    selection = Selection(scope, dialect)
    conditions = Conditions(dialect.name)
    reader = selection.reader(
        plan.fields or node.resource.inventory.__struct_fields__, partial=bool(plan.fields)
    )
    for index, shape in enumerate(plan.conditions):
        conditions.add(scope, index, shape)
    if plan.one:
        scope.where.append(_one(scope, plan.one))
    places = tuple(selection.place(node.fields[name]) for name, _ in plan.order)
    if plan.after:
        scope.where.append(_after(scope, plan))
    body = scope.select(*selection.columns).order_by(*_order(scope, plan, dialect))
    if plan.bounded:
        body = body.limit(bindparam("limit"))
    if plan.count:
        body = _with_total(graph, plan, dialect, body)
    return _compiled(body, dialect, reader, places)


def _compiled(body: Select[Any], dialect: Dialect, reader: Reader, places: tuple[int, ...]) -> Statement:
    compiled: Any = body.compile(dialect=dialect)
    positions = tuple(compiled.positiontup) if compiled.positiontup is not None else None
    return Statement(str(compiled), dict(compiled.params), positions, reader, places)


def _core_first(node: Node, plan: Plan) -> bool:
    return bool(plan.order) and node.fields[plan.order[0][0]].core


def _one(scope: Scope, by: str) -> ColumnElement[bool]:
    one: Any = bindparam("one")
    return scope.root.uuid == one if by == "uuid" else scope.root.core.c[by] == one


def _order(scope: Scope, plan: Plan, dialect: Dialect) -> list[Any]:
    """Null counts as the greatest value, which is what PostgreSQL does unasked."""
    fields = scope.root.node.fields
    return [
        _direction(scope.root.column(fields[name]), down, fields[name].nullable and dialect.name == "sqlite")
        for name, down in plan.order
    ]


def _direction(column: ColumnElement[Any], down: bool, say_nulls: bool) -> ColumnElement[Any]:
    if down:
        return column.desc().nulls_first() if say_nulls else column.desc()
    return column.asc().nulls_last() if say_nulls else column.asc()


def _after(scope: Scope, plan: Plan) -> ColumnElement[bool]:
    """The rows after the cursor. One row comparison if it can be: both databases then seek in an index."""
    fields = [scope.root.node.fields[name] for name, _ in plan.order]
    columns = [scope.root.column(field) for field in fields]
    marks: list[Any] = [bindparam(f"k{place}") for place in range(len(columns))]
    downs = {down for _, down in plan.order}
    if len(downs) == 1 and not any(field.nullable for field in fields):
        left, right = tuple_(*columns), tuple_(*marks)
        return left < right if downs.pop() else left > right
    branches: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for column, mark, field, null, (_, down) in zip(
        columns, marks, fields, plan.after, plan.order, strict=True
    ):
        branches.append(and_(*equal, _beyond(column, mark, field.nullable, null, down)))
        equal.append(column.is_(None) if null else column == mark)
    return or_(*branches)


def _beyond(
    column: ColumnElement[Any], mark: Any, nullable: bool, null: bool, down: bool
) -> ColumnElement[bool]:
    if null:
        return column.is_not(None) if down else false()
    if down:
        return column < mark
    return or_(column > mark, column.is_(None)) if nullable else column > mark


def _with_total(graph: Graph, plan: Plan, dialect: Dialect, body: Select[Any]) -> Select[Any]:
    """``body`` with the number of all rows as last column, also where the page itself has none."""
    scope = Scope(graph, graph[plan.type], limited=plan.limited)
    conditions = Conditions(dialect.name)
    for index, shape in enumerate(plan.conditions):
        conditions.add(scope, index, shape)
    _ = scope.root.uuid
    total = scope.select(func.count()).scalar_subquery()
    page, one = body.subquery("page"), select(literal_column("1").label("one")).subquery("one")
    return select(*page.c, total.label("total")).select_from(one.outerjoin(page, true()))
