"""What can be asked of every resource: for the API documents, the command line and error messages."""

from __future__ import annotations

import msgspec

from mgmtnode.query.grammar import TAGS
from mgmtnode.query.graph import Graph, Node
from mgmtnode.query.kinds import TEXT


class FieldDescription(msgspec.Struct, frozen=True, kw_only=True):
    """``operators`` is empty for fields that have no conditions; ``shown`` false: only in conditions."""

    name: str
    kind: str
    operators: list[str] = []
    members: list[str] = []
    nullable: bool = False
    sortable: bool = False
    shown: bool = True


class JoinDescription(msgspec.Struct, frozen=True, kw_only=True):
    """``many``: conditions through it ask whether there is any."""

    name: str
    target: str
    many: bool


class ResourceDescription(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    plural: str
    fields: list[FieldDescription]
    joins: list[JoinDescription]


def describe(graph: Graph) -> dict[str, ResourceDescription]:
    return {type_: _resource(graph[type_]) for type_ in sorted(graph)}


def _resource(node: Node) -> ResourceDescription:
    usable = node.usable()
    fields = [
        FieldDescription(
            name=f.name,
            kind=f.kind.name,
            operators=list(f.kind.operators) if f.name in usable else [],
            members=list(f.kind.members),
            nullable=f.nullable and f.column is not None,
            sortable=f.name in usable and f.kind.sortable and f.name in node.fields,
            shown=f.name in node.fields,
        )
        for f in [*node.fields.values(), *node.hidden.values()]
    ]
    if node.resource.backed:
        fields += [
            FieldDescription(name=name, kind=TEXT.name, operators=list(TEXT.operators), shown=False)
            for name in TAGS
        ]
    joins = [JoinDescription(name=e.name, target=e.target, many=e.many) for e in node.edges.values()]
    return ResourceDescription(type=node.type, plural=node.resource.plural, fields=fields, joins=joins)
