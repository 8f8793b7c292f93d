"""The order of a page, and what comes after a cursor in it. Null counts as the greatest value on both
databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, false, or_, tuple_
from sqlalchemy.engine import Dialect

from mgmtnode.query.graph import Node
from mgmtnode.query.scope import Stop

Order = tuple[tuple[str, bool], ...]


def ordered(columns: Sequence[ColumnElement[Any]], node: Node, order: Order, dialect: Dialect) -> list[Any]:
    """``columns``, the values of the fields of ``order``, as ORDER BY takes them."""
    said = []
    for column, (name, down) in zip(columns, order, strict=True):
        term = column.desc() if down else column.asc()
        if node.fields[name].nullable and dialect.name == "sqlite":
            term = term.nulls_first() if down else term.nulls_last()  # what PostgreSQL does unasked
        said.append(term)
    return said


def after(root: Stop, order: Order, nulls: Sequence[bool]) -> ColumnElement[bool]:
    """The rows after the values k0, k1, … of ``order``; ``nulls`` says which of them are null.

    One comparison of rows if it can be: both databases then seek in an index.
    """
    fields = [root.node.fields[name] for name, _ in order]
    columns = [root.column(field) for field in fields]
    marks: list[BindParameter[Any]] = [bindparam(f"k{place}") for place in range(len(columns))]
    downs = {down for _, down in order}
    if len(downs) == 1 and not any(field.nullable for field in fields):
        left, right = tuple_(*columns), tuple_(*marks)
        return left < right if downs.pop() else left > right
    further: ColumnElement[bool] = false()
    for place in reversed(range(len(columns))):
        column, mark, null, down = columns[place], marks[place], nulls[place], order[place][1]
        equal = column.is_(None) if null else column == mark
        further = or_(
            _further(fields[place].nullable, column, mark, null=null, down=down), and_(equal, further)
        )
    return further


def _further(
    nullable: bool, column: ColumnElement[Any], mark: BindParameter[Any], *, null: bool, down: bool
) -> ColumnElement[bool]:
    if null:
        return column.is_not(None) if down else false()
    if down:
        return column < mark
    return or_(column > mark, column.is_(None)) if nullable else column > mark
