"""From result rows to inventories: which columns a statement selects, and how each value is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from operator import attrgetter
from typing import Any, get_type_hints

import msgspec
from sqlalchemy import JSON, ColumnElement, Text, case, cast, false, func, literal_column, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.engine import Dialect

from mgmtnode.query.graph import CORE_FIELDS, Embedded, Field
from mgmtnode.query.kinds import BOOLEAN, MOMENT, OPAQUE, UUID_KIND, Kind, kind_of, plain
from mgmtnode.query.scope import Scope, reach

Read = Callable[[Any], Any]
UUID_OF = attrgetter("uuid")
YES: ColumnElement[Any] = literal_column("'true'")
NO: ColumnElement[Any] = literal_column("'false'")


@dataclass(frozen=True, slots=True)
class Reader:
    """Builds inventories, or dicts where only some fields were asked for, from the driver's rows.

    The first values of a row are the fields in order of ``names``; ``reads`` are the places that the driver
    does not give as they should be; ``empty`` fields are lists of what no enabled service has.
    """

    names: tuple[str, ...]
    reads: tuple[tuple[int, Read], ...]
    empty: tuple[str, ...]
    build: Callable[..., Any]

    def items(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        return [self.item(row) for row in rows]

    def item(self, row: Sequence[Any]) -> Any:
        values = list(row)
        for place, read in self.reads:
            value = values[place]
            if value is not None:
                values[place] = read(value)
        item = dict(zip(self.names, values, strict=False))
        for name in self.empty:
            item[name] = []
        return self.build(**item)


class Selection:
    """The columns of one statement, growing while it is written, and the reader of its rows."""

    def __init__(self, scope: Scope, dialect: Dialect) -> None:
        self.columns: list[ColumnElement[Any]] = []
        self._scope, self._dialect = scope, dialect
        self._sqlite = dialect.name == "sqlite"
        self._reads: list[tuple[int, Read]] = []
        self._places: dict[str, int] = {}

    def reader(self, names: Sequence[str], *, partial: bool) -> Reader:
        """Selects the fields ``names`` of the scope's root."""
        fields = [self._scope.root.node.fields[name] for name in names]
        stored = [f for f in fields if f.column is not None or f.embedded is not None]
        for field in stored:
            self.place(field)
        empty = tuple(f.name for f in fields if f not in stored)
        build = dict if partial else self._scope.root.node.resource.inventory
        return Reader(tuple(f.name for f in stored), tuple(self._reads), empty, build)

    def place(self, field: Field) -> int:
        """Where the field's value is in a row; selects it if it is not yet."""
        if field.name not in self._places:
            self._places[field.name] = len(self.columns)
            if field.embedded is not None:
                self._add(self._embedded(field.embedded), _list_reader(field))
            else:
                column = self._scope.root.column(field)
                text = cast(column, Text) if field.kind is UUID_KIND and not self._sqlite else column
                self._add(text, self._read(field.kind, field.hint))
        return self._places[field.name]

    def _add(self, column: ColumnElement[Any], read: Read | None) -> None:
        if read is not None:
            self._reads.append((len(self.columns), read))
        self.columns.append(column.label(f"v{len(self.columns)}"))

    def _read(self, kind: Kind, hint: Any) -> Read | None:
        if kind is OPAQUE:
            return msgspec.json.Decoder(hint).decode
        if kind.members:
            of: type[Enum] = plain(hint)
            return {member.value: member for member in of}.__getitem__
        if self._sqlite and kind is MOMENT:
            return datetime.fromisoformat
        return bool if self._sqlite and kind is BOOLEAN else None

    def _embedded(self, embedded: Embedded) -> ColumnElement[Any]:
        """A JSON list of the rows at the other end of a back reference, in the same statement."""
        outer, edge = self._scope.root, embedded.edge
        if embedded.item is None:
            return self._uuids(embedded)
        inner = self._scope.inner(self._scope.graph[edge.target])
        hints = get_type_hints(embedded.item, include_extras=True)
        pairs: list[Any] = []
        for name in embedded.item.__struct_fields__:
            pairs += [literal_column(f"'{name}'"), self._json(inner, name, hints[name])]
        rows, uuid = reach(outer, edge, inner)
        entry = func.json_object(*pairs) if self._sqlite else func.json_build_object(*pairs)
        return self._list(
            rows.with_only_columns(self._aggregate(entry, inner.root.uuid)).where(uuid == outer.uuid)
        )

    def _uuids(self, embedded: Embedded) -> ColumnElement[Any]:
        outer, edge = self._scope.root, embedded.edge
        if edge.link is not None:
            link = edge.link.alias()
            far, entry = link.c[edge.far], link.c[edge.near]
        else:
            node = self._scope.graph[edge.target]
            other = node.table.alias()
            far, entry = other.c[edge.far], other.c[node.key]
        return self._list(select(self._aggregate(entry, entry)).where(far == outer.uuid))

    def _aggregate(self, entry: Any, key: Any) -> Any:
        """In the order of the keys; rows of SQLite come in that of creation."""
        return func.json_group_array(entry) if self._sqlite else func.json_agg(aggregate_order_by(entry, key))

    def _list(self, rows: Any) -> ColumnElement[Any]:
        listed = rows.correlate(self._scope.root.uuid.table).scalar_subquery()
        return func.coalesce(listed if self._sqlite else cast(listed, Text), literal_column("'[]'"))

    def _json(self, inner: Scope, name: str, hint: Any) -> ColumnElement[Any]:
        node, root = inner.root.node, inner.root
        if name == node.key:
            return root.uuid
        if name in CORE_FIELDS and node.resource.backed:
            return root.core.c[name]
        column = root.own.c[name]
        kind = kind_of(hint, node.table.c[name])
        if kind is OPAQUE:
            return func.json(column) if self._sqlite else cast(column, JSON)
        if kind is BOOLEAN and self._sqlite:
            return func.json(case((column.is_(true()), YES), (column.is_(false()), NO)))
        return column


def _list_reader(field: Field) -> Read:
    """Reads an embedded list, ordered by uuid: what an aggregate gives has no order."""
    decode = msgspec.json.Decoder(field.hint).decode
    assert field.embedded is not None
    item = field.embedded.item
    if item is None:
        return lambda text: sorted(decode(text))
    if "uuid" not in item.__struct_fields__:
        return decode
    return lambda text: sorted(decode(text), key=UUID_OF)
