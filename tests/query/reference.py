"""What conditions mean, said in Python over a World: slow, obvious, and written without looking at the
SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cmp_to_key
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from tests.query.world import Row, World

COMPARE: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "!=": ne, ">": gt, ">=": ge, "<": lt, "<=": le}
NEGATED = {"!=": "=", "!~=": "~=", "!?=": "?="}


@dataclass(frozen=True)
class Test:
    """A condition: ``value`` is of the field's type, a list for ``?=``, None for ``=null``."""

    __test__ = False

    path: tuple[str, ...]
    field: str
    operator: str
    value: Any

    def __str__(self) -> str:
        return f"{'.'.join((*self.path, self.field))}{self.operator}{written(self.value)}"


def written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    return ",".join(map(written, value)) if isinstance(value, list) else str(value)


def matching(world: World, type_: str, tests: Sequence[Test], account: str | None = None) -> list[Row]:
    """The rows of ``type_`` that meet all tests and that ``account`` sees (None: all)."""
    return [
        row
        for row in world.rows[type_]
        if world.sees(account, row["uuid"]) and all(_meets(world, type_, row, t, account) for t in tests)
    ]


def in_order(rows: list[Row], sort: str) -> list[Row]:
    terms = [(word.removeprefix("-"), word.startswith("-")) for word in sort.split(",") if word]
    if "uuid" not in [name for name, _ in terms]:
        terms.append(("uuid", terms[-1][1] if terms else False))

    def compare(a: Row, b: Row) -> int:
        for name, down in terms:
            one, two = _rank(a[name]), _rank(b[name])
            if one != two:
                return (1 if one > two else -1) * (-1 if down else 1)
        return 0

    return sorted(rows, key=cmp_to_key(compare))


def _rank(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)


def _meets(world: World, type_: str, row: Row, test: Test, account: str | None) -> bool:
    from tests.query.world import STEPS

    reached = [(type_, row)]
    for step in test.path:
        reached = [
            (STEPS[at][step][0], other)
            for at, found in reached
            for other in world.reach(found, at, step)
            if world.sees(account, other["uuid"])
        ]
    return any(_holds(world, found, test) for _, found in reached)


def _holds(world: World, row: Row, test: Test) -> bool:
    if test.field.endswith("_tag"):
        texts = [text for kind, text in world.tags[row["uuid"]] if kind == test.field.removesuffix("_tag")]
        if test.value is None:
            return bool(texts) is (test.operator == "!=")
        plain = NEGATED.get(test.operator, test.operator)
        return any(_compare(text, plain, test.value) for text in texts) is (plain == test.operator)
    if test.value is None:
        return (row[test.field] is None) is (test.operator == "=")
    return row[test.field] is not None and _compare(row[test.field], test.operator, test.value)


def _compare(value: Any, operator: str, wanted: Any) -> bool:
    if operator in COMPARE:
        return COMPARE[operator](value, wanted)
    if operator in ("?=", "!?="):
        return (value in wanted) is (operator == "?=")
    return bool(re.match(_regex(wanted), _lower(str(value)), re.DOTALL)) is (operator == "~=")


def _regex(pattern: str) -> str:
    out, at = "", 0
    pattern = _lower(pattern)
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
            out += re.escape(pattern[at])
        else:
            out += {"%": ".*", "_": "."}.get(pattern[at], re.escape(pattern[at]))
        at += 1
    return out + r"\Z"


def _lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)
