"""Conditions as SQL. The values are parameters, named after the condition's place in the query."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Alias,
    BindParameter,
    ColumnElement,
    Text,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    select,
)

from mgmtnode.db import tables as core
from mgmtnode.query.grammar import TAGS, Condition
from mgmtnode.query.graph import Field
from mgmtnode.query.kinds import BOOLEAN, UUID_KIND
from mgmtnode.query.scope import ONE, Scope, Stop, reach

Shape = tuple[tuple[str, ...], str, str, int]
NEGATED = {"!=": "=", "!~=": "~=", "!?=": "?="}


def parameters(index: int, condition: Condition) -> dict[str, Any]:
    """The values of a query's condition number ``index`` by parameter name."""
    return {f"c{index}_{place}": value for place, value in enumerate(condition.values)}


class Conditions:
    """Writes conditions into scopes. ``dialect`` is the name of SQLAlchemy's."""

    def __init__(self, dialect: str) -> None:
        self._sqlite = dialect == "sqlite"

    def add(self, scope: Scope, index: int, shape: Shape) -> None:
        """Filters ``scope`` by the condition."""
        path, name, operator, size = shape
        values: list[BindParameter[Any]] = [bindparam(f"c{index}_{place}") for place in range(size)]
        scope.where.append(self._reached(scope, path, (name, operator), values))

    def _reached(
        self, scope: Scope, path: tuple[str, ...], test: tuple[str, str], values: list[BindParameter[Any]]
    ) -> ColumnElement[bool]:
        node = scope.root.node
        for at, step in enumerate(path):
            edge = node.edges[step]
            if edge.many:
                outer = scope.stop(path[:at])
                inner = scope.inner(scope.graph[edge.target])
                inner.where.append(self._reached(inner, path[at + 1 :], test, values))
                rows, uuid = reach(outer, edge, inner)
                return _any(outer, rows, uuid, selective=_selective(inner, path[at + 1 :], test))
            node = scope.graph[edge.target]
        stop = scope.stop(path)
        if test[0] in TAGS and node.resource.backed:
            return self._tagged(stop, test[0].removesuffix("_tag"), test[1], values)
        field = node.usable()[test[0]]
        return self._compare(stop.column(field), field, test[1], values)

    def _tagged(
        self, stop: Stop, kind: str, operator: str, values: list[BindParameter[Any]]
    ) -> ColumnElement[bool]:
        """A negated operator asks for resources without such a tag, null for those without any."""
        tag = core.tag.alias()
        found = select(tag.c.resource_uuid).where(tag.c.kind == literal_column(f"'{kind}'"))
        if operator not in ("null", "not null"):
            found = found.where(self._operate(tag.c.text, NEGATED.get(operator, operator), values))
        if operator == "null" or operator in NEGATED:
            return ~exists(found.where(tag.c.resource_uuid == stop.uuid).correlate(*_tables(stop)))
        return stop.uuid.in_(found)

    def _compare(
        self, column: ColumnElement[Any], field: Field, operator: str, values: list[BindParameter[Any]]
    ) -> ColumnElement[bool]:
        if operator == "null":
            return column.is_(None)
        if operator == "not null":
            return column.is_not(None)
        if field.kind is UUID_KIND and operator in ("~=", "!~=") and not self._sqlite:
            column = cast(column, Text)
        return self._operate(column, operator, values)

    def _operate(
        self, column: ColumnElement[Any], operator: str, values: list[BindParameter[Any]]
    ) -> ColumnElement[bool]:
        if operator == "?=":
            return column.in_(values)
        if operator == "!?=":
            return column.not_in(values)
        if operator in ("~=", "!~="):
            return self._like(column, operator, values)
        return column.op(operator if operator != "!=" else "<>", is_comparison=True)(values[0])

    def _like(
        self, column: ColumnElement[Any], operator: str, values: list[BindParameter[Any]]
    ) -> ColumnElement[bool]:
        # SQLite's LIKE ignores the case of ASCII by itself, and so can read an index of the column alone.
        text = column if self._sqlite else func.lower(column)
        if operator == "!~=":
            return text.not_like(values[0], escape="\\")
        found = text.like(values[0], escape="\\")
        if self._sqlite and len(values) == 3:
            # PostgreSQL derives the range from the pattern by itself; SQLite does not, for an expression.
            return found & (func.lower(column) >= values[1]) & (func.lower(column) < values[2])
        return found


def _any(outer: Stop, rows: Any, uuid: ColumnElement[Any], *, selective: bool) -> ColumnElement[bool]:
    """Whether any of ``rows`` belongs to ``outer``.

    SQLite runs ``IN`` once, from the rows up, and ``EXISTS`` for each outer row; PostgreSQL chooses by
    itself.
    """
    if selective:
        return outer.uuid.in_(rows)
    return exists(rows.with_only_columns(ONE).where(uuid == outer.uuid).correlate(*_tables(outer)))


def _selective(inner: Scope, path: tuple[str, ...], test: tuple[str, str]) -> bool:
    """Whether few rows can be expected: an equality, and not with one of a handful of values."""
    node = inner.root.node
    for step in path:
        node = inner.graph[node.edges[step].target]
    if test[0] in TAGS:
        return True
    kind = node.usable()[test[0]].kind
    return test[1] in ("=", "?=") and kind is not BOOLEAN and not kind.members


def _tables(stop: Stop) -> list[Alias]:
    """The aliases ``stop.uuid`` may be a column of."""
    column: Any = stop.uuid  # always a column of an alias
    return [column.table]
