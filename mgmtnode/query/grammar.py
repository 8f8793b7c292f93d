"""The condition grammar: ``host.cluster.name=west``, ``state?=Running,Stopped``, ``nics.ip~=10.0.%``.

A condition is a path over relations, an operator and a value of the field's kind. ``=null`` and ``!=null``
test for absence. A null satisfies no other condition. Through a relation to many, a condition asks whether
there is any. Tags are the exception: a negated operator asks that the resource has no such tag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mgmtnode.query.errors import BAD_VALUE, SHOWN, UNKNOWN_FIELD, UNKNOWN_OPERATOR, shown, unknown
from mgmtnode.query.graph import Field, Graph, Node
from mgmtnode.query.kinds import EQUAL, IN, LIKE, MAX_TEXT, OPERATORS, TEXT, Kind

MAX_CONDITIONS = 32
MAX_DEPTH = 8
MAX_LENGTH = 65_536
MAX_LIST = 1024
TAGS = ("user_tag", "system_tag")
SHAPE = re.compile(r"\s*([^=!<>~?]*?)\s*(!\?=|\?=|!~=|~=|!=|>=|<=|=|>|<)(.*)\Z", re.DOTALL)
MISSPELT = {"==": "=", "<>": "!=", "=>": ">=", "=<": "<=", "=~": "~="}  # as other languages write them
ASCII_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
LAST_BEFORE_SURROGATES, LAST = 0xD7FF, 0x10FFFF


@dataclass(frozen=True, slots=True)
class Condition:
    """``path`` are relations from the root to the type that has ``field``. ``operator`` may also be
    ``null`` and ``not null``. A pattern with a fixed beginning has three values: itself, and the range of
    its beginning."""

    path: tuple[str, ...]
    field: str
    operator: str
    values: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """All that the SQL depends on, which is everything but the values."""
        return (self.path, self.field, self.operator, len(self.values))


def parse(graph: Graph, root: Node, conditions: Sequence[str]) -> list[Condition]:
    """Reads ``conditions`` on ``root``. Raises the query errors."""
    if len(conditions) > MAX_CONDITIONS:
        raise BAD_VALUE.error(
            f"{len(conditions)} conditions are too many; at most {MAX_CONDITIONS} are possible"
        )
    return [_condition(graph, root, text) for text in conditions]


def check_text(text: object, what: str = "condition") -> str:
    """``text``, if both databases could take it: of bounded length, no NUL, no half of a surrogate pair."""
    if not isinstance(text, str):
        raise BAD_VALUE.error(f"a {what} is a text")
    if len(text) > MAX_LENGTH:
        raise BAD_VALUE.error(f"a {what} has at most {MAX_LENGTH} characters")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise BAD_VALUE.error(f"the {what} is not valid Unicode") from exc
    if "\0" in text:
        raise BAD_VALUE.error(f"the {what} has a NUL character")
    return text


def _condition(graph: Graph, root: Node, text: str) -> Condition:
    found = SHAPE.match(check_text(text))
    if found is None:
        raise UNKNOWN_OPERATOR.error(
            f"{shown(text)} has no operator; one of {' '.join(OPERATORS)}",
            field=text[:SHOWN],
            known=list(OPERATORS),
        )
    dotted, operator, value = found.groups()
    if meant := MISSPELT.get(operator + value[:1]):
        # Read literally it would be an operator and a value that begins so, which nobody means; ?= takes such a value.
        raise UNKNOWN_OPERATOR.error(
            f"{shown(text)}: there is no operator {operator + value[:1]}; did you mean {meant}?",
            field=dotted[:SHOWN],
            known=list(OPERATORS),
        )
    *path, name = dotted.split(".")
    if len(path) > MAX_DEPTH:
        raise unknown(UNKNOWN_FIELD, f"{shown(dotted)} follows more than {MAX_DEPTH} relations", dotted, ())
    node = root
    for step in path:
        node = _follow(graph, node, step)
    kind = TEXT if name in TAGS and node.resource.backed else _usable(node, name).kind
    if value == "null" and operator in EQUAL:
        return Condition(tuple(path), name, "null" if operator == "=" else "not null")
    if operator not in kind.operators:
        message = f"{node.type}.{name} is of kind {kind.name} and has no operator {operator}"
        raise unknown(UNKNOWN_OPERATOR, message, operator, kind.operators)
    try:
        return Condition(tuple(path), name, operator, _values(kind, operator, value))
    except ValueError as exc:
        message = f"{shown(value)} does not fit {node.type}.{name}, which takes {exc}"
        raise unknown(BAD_VALUE, message, name, kind.members) from exc


def _follow(graph: Graph, node: Node, step: str) -> Node:
    edge = node.edges.get(step)
    if edge is not None:
        return graph[edge.target]
    if step in node.fields:
        message = f"{node.type}.{step} is a field and leads nowhere; relations of {node.type}"
        raise UNKNOWN_FIELD.error(message, field=step, known=sorted(node.edges))
    raise unknown(UNKNOWN_FIELD, f"{node.type} has no relation {shown(step)}", step, node.edges)


def _usable(node: Node, name: str) -> Field:
    fields = node.usable()
    found = fields.get(name)
    if found is not None:
        return found
    if name in node.edges:
        message = f"{name} is a relation of {node.type}: name a field of it, such as {name}.uuid"
    elif name in node.fields:
        message = f"{node.type}.{name} is computed and has no conditions"
    else:
        message = f"{node.type} has no field {shown(name)}"
    raise unknown(
        UNKNOWN_FIELD, message, name, [*fields, *node.edges, *(TAGS if node.resource.backed else ())]
    )


def _values(kind: Kind, operator: str, text: str) -> tuple[Any, ...]:
    if operator in LIKE:
        return _pattern(text)
    if operator not in IN:
        return (kind.parse(text),)
    parts = text.split(",")
    if len(parts) > MAX_LIST:
        raise ValueError(f"at most {MAX_LIST} members")
    values = list(dict.fromkeys(kind.parse(part) for part in parts))
    # Padded to a power of two by repeating the last one: lists of any length share few statements.
    return (*values, *values[-1:] * ((1 << (len(values) - 1).bit_length()) - len(values)))


def _pattern(text: str) -> tuple[str, ...]:
    """The pattern in lower case and, if it begins with fixed text, where texts with that beginning start
    and end."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"a pattern of at most {MAX_TEXT} characters")
    pattern = text.translate(ASCII_LOWER)
    prefix, at = "", 0
    while at < len(pattern) and pattern[at] not in "%_":
        at += pattern[at] == "\\"
        if at == len(pattern):
            raise ValueError("a pattern that does not end in a single backslash")
        prefix, at = prefix + pattern[at], at + 1
    if re.search(r"(?<!\\)(\\\\)*\\\Z", pattern):
        raise ValueError("a pattern that does not end in a single backslash")
    if not prefix or ord(prefix[-1]) in (LAST_BEFORE_SURROGATES, LAST):
        return (pattern,)
    return (pattern, prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
