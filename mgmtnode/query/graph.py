"""The join graph, built once at boot: what every resource type shows, and how one is reached from another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from sqlalchemy import Column, Table

from mgmtnode.db import tables as core
from mgmtnode.query.errors import GraphError
from mgmtnode.query.kinds import OPAQUE, UUID_KIND, Kind, kind_of, plain
from mgmtnode.schema import Embed, Ref, Resource

CORE_FIELDS = ("name", "description", "account_uuid", "created_at", "updated_at")


@dataclass(frozen=True, eq=False, slots=True)
class Edge:
    """A step from one type to another.

    Forward: ``near`` is the column of this type's table with the other's uuid. Back: ``far`` is the column of
    the other table with this one's uuid. Through a link table, both are columns of ``link``.
    """

    name: str
    target: str
    near: str = ""
    far: str = ""
    link: Table | None = None

    @property
    def many(self) -> bool:
        return bool(self.far)


@dataclass(frozen=True, eq=False, slots=True)
class Embedded:
    """A list field filled through ``edge`` with structs of type ``item``, or with uuids if that is None."""

    edge: Edge
    item: type[msgspec.Struct] | None


@dataclass(frozen=True, eq=False, slots=True)
class Field:
    """One field: of ``column``, or ``embedded``, or, if both are None, an empty list: what it would list
    belongs to a service that is not enabled."""

    name: str
    kind: Kind
    hint: Any = None
    column: Column[Any] | None = None
    core: bool = False
    embedded: Embedded | None = None

    @property
    def nullable(self) -> bool:
        return self.column is None or bool(self.column.nullable)


@dataclass(eq=False, slots=True)
class Node:
    """One type in the graph. ``hidden`` fields have conditions, but are not part of the inventory."""

    resource: Resource
    table: Table
    key: str
    fields: dict[str, Field] = field(default_factory=dict)
    hidden: dict[str, Field] = field(default_factory=dict)
    edges: dict[str, Edge] = field(default_factory=dict)

    @property
    def type(self) -> str:
        return self.resource.type

    def usable(self) -> dict[str, Field]:
        """The fields that conditions and sorts may name."""
        return {n: f for n, f in (self.hidden | self.fields).items() if f.column is not None}


Graph = dict[str, Node]


def build_graph(
    resources: Sequence[Resource],
    tables: Sequence[Table],
    *,
    known: Collection[str] = (),
) -> Graph:
    """The graph of those ``resources`` whose tables are among ``tables``.

    ``known`` are further types of services that are not enabled: a reference to one of them gives no edge.
    Raises GraphError for a field without a column, a reference to a type nobody declared, two relations of
    one name.
    """
    found = {_type_of(table): table for table in tables}
    graph = {r.type: _node(r, found[r.type]) for r in resources if r.type in found}
    build = _Build(graph, resources, {r.type for r in resources} | set(known))
    for table in tables:
        _check_references(table, build.types)
    for node in graph.values():
        _add_forward(graph, node)
    for table in tables:
        _add_back(graph, table)
    for node in graph.values():
        _add_fields(build, node)
    return graph


@dataclass(frozen=True, slots=True)
class _Build:
    graph: Graph
    resources: Sequence[Resource]
    types: set[str]


def references_of(table: Table) -> Iterator[Column[Any]]:
    return (column for column in table.columns if "ref" in column.info)


def _type_of(table: Table) -> str:
    return str(table.info.get("resource_type", table.name))


def _node(resource: Resource, table: Table) -> Node:
    keys = [c.name for c in table.primary_key]
    key = "uuid" if "uuid" in table.c else keys[0]
    if resource.backed:
        for name in CORE_FIELDS:
            if name in table.c:
                raise GraphError(f"table {table.name}, column {name}: the core table already has it")
    return Node(resource, table, key)


def _check_references(table: Table, types: Collection[str]) -> None:
    for column in references_of(table):
        if column.info["ref"] not in types:
            raise GraphError(
                f"table {table.name}, column {column.name}: refers to {column.info['ref']!r}, "
                "a type that no contract declares"
            )


def _add_forward(graph: Graph, node: Node) -> None:
    for column in references_of(node.table):
        if column.info["ref"] in graph:
            _add(node, Edge(column.info["as"], column.info["ref"], near=column.name), node.table, column)


def _add_back(graph: Graph, table: Table) -> None:
    columns = list(references_of(table))
    here = _type_of(table)
    for column in columns:
        back, origin = column.info["back"], graph.get(column.info["ref"])
        if not back or origin is None:
            continue
        if here in graph:
            _add(origin, Edge(back, here, far=column.name), table, column)
        elif len(columns) != 2:
            raise GraphError(
                f"table {table.name}, column {column.name}: back={back!r} leads nowhere; only the table of a "
                "resource, or a link table with two references, can be reached from the other side"
            )
        else:
            other = columns[1] if column is columns[0] else columns[0]
            if other.info["ref"] in graph:
                edge = Edge(back, other.info["ref"], near=other.name, far=column.name, link=table)
                _add(origin, edge, table, column)


def _add(node: Node, edge: Edge, table: Table, column: Column[Any]) -> None:
    if edge.name in node.edges:
        raise GraphError(
            f"table {table.name}, column {column.name}: {node.type} already has a relation "
            f"named {edge.name!r}; give another as_= or back="
        )
    node.edges[edge.name] = edge


def _add_fields(build: _Build, node: Node) -> None:
    hints = get_type_hints(node.resource.inventory, include_extras=True)
    for name in node.resource.inventory.__struct_fields__:
        node.fields[name] = _field(build, node, name, hints[name])
    if "account_uuid" not in node.fields:
        account = core.resource.c.account_uuid if node.resource.backed else node.table.c.get("account_uuid")
        if account is not None:
            node.hidden["account_uuid"] = Field(
                "account_uuid", UUID_KIND, str, account, core=node.resource.backed
            )


def _field(build: _Build, node: Node, name: str, hint: Any) -> Field:
    if name in node.table.c:
        column = node.table.c[name]
        return Field(name, kind_of(hint, column), hint, column)
    if node.resource.backed and name in CORE_FIELDS:
        column = core.resource.c[name]
        return Field(name, kind_of(hint, column), hint, column, core=True)
    embedded = _embedded(build, node, name, hint)
    if embedded is None:
        raise GraphError(
            f"{node.type}, field {name}: table {node.table.name} has no such column, and no reference to "
            f"{node.type} has back={name!r}"
        )
    return embedded


def _embedded(build: _Build, node: Node, name: str, hint: Any) -> Field | None:
    declared = next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Embed)), None)
    if get_origin(plain(hint)) is not list:
        return None
    inner = get_args(plain(hint))[0]
    edge = node.edges.get(declared.back if declared else name)
    if edge is None and declared and (_absent(build, inner) or _has_default(node, name)):
        return Field(name, OPAQUE, hint)  # the service on the other side is not enabled
    item = plain(inner)
    if edge is None or not edge.many:
        return None
    if item is str:
        return Field(name, OPAQUE, hint, embedded=Embedded(edge, None))
    if not (isinstance(item, type) and issubclass(item, msgspec.Struct)):
        return None
    _check_item(build.graph[edge.target], item, f"{node.type}, field {name}")
    return Field(name, OPAQUE, hint, embedded=Embedded(edge, item))


def _absent(build: _Build, hint: Any) -> bool:
    """Whether the members of a list are of a declared type without a table, by their Ref or being its
    inventory."""
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, Ref):
            return meta.type in build.types and meta.type not in build.graph
    return any(r.inventory is plain(hint) and r.type not in build.graph for r in build.resources)


def _has_default(node: Node, name: str) -> bool:
    found = next(f for f in msgspec.structs.fields(node.resource.inventory) if f.name == name)
    return found.default is not msgspec.NODEFAULT or found.default_factory is not msgspec.NODEFAULT


def _check_item(target: Node, item: type[msgspec.Struct], where: str) -> None:
    for name in item.__struct_fields__:
        if name not in target.table.c and not (target.resource.backed and name in CORE_FIELDS):
            raise GraphError(f"{where}: {target.type} has no column for {item.__name__}.{name}")
