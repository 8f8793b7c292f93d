"""The kinds of values that fields have: how they are written in conditions and cursors, and their
operators."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from sqlalchemy import Column
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import Uuid

EQUAL = ("=", "!=")
ORDER = (">", ">=", "<", "<=")
LIKE = ("~=", "!~=")
IN = ("?=", "!?=")
OPERATORS = EQUAL + ORDER + LIKE + IN
MAX_TEXT = 4096
MAX_INT = 2**63 - 1
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
INTEGER = re.compile(r"[+-]?[0-9]{1,19}\Z")
POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Kind:
    """``parse`` reads a value from text and raises ValueError saying what it should look like."""

    name: str
    operators: tuple[str, ...]
    parse: Callable[[str], Any]
    members: tuple[str, ...] = ()
    sortable: bool = True


def _text(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError(f"a text of at most {MAX_TEXT} characters")
    return text


def _uuid(text: str) -> str:
    lower = text.lower()
    if not UUID.match(lower):
        raise ValueError("a uuid")
    return lower


def _integer(text: str) -> int:
    value = int(text) if INTEGER.match(text) else None
    if value is None or not -MAX_INT - 1 <= value <= MAX_INT:
        raise ValueError("an integer of 64 bits")
    return value


def _number(text: str) -> float:
    try:
        value = float(text) if len(text) <= 64 and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("a number")
    return value


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def _moment(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text) if "T" in text.upper() and len(text) <= 40 else None
        if value is not None and value.tzinfo is not None:
            return value.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("an RFC 3339 time such as 2026-01-31T08:00:00Z")


def _nothing(text: str) -> Any:
    raise ValueError("null: other values of this field cannot be compared")


TEXT = Kind("text", EQUAL + ORDER + LIKE + IN, _text)
UUID_KIND = Kind("uuid", EQUAL + ORDER + LIKE + IN, _uuid)
INTEGER_KIND = Kind("integer", EQUAL + ORDER + IN, _integer)
NUMBER = Kind("number", EQUAL + ORDER + IN, _number)
BOOLEAN = Kind("boolean", EQUAL + IN, _boolean)
MOMENT = Kind("datetime", EQUAL + ORDER + IN, _moment)
OPAQUE = Kind("json", EQUAL, _nothing, sortable=False)
SCALARS: dict[Any, Kind] = {str: TEXT, int: INTEGER_KIND, float: NUMBER, bool: BOOLEAN, datetime: MOMENT}


def enum_kind(of: type[Enum]) -> Kind:
    """The kind of an enum of strings; members are compared as the text they are stored as."""
    members = tuple(str(member.value) for member in of)

    def parse(text: str) -> str:
        if text not in members:
            raise ValueError(f"one of {', '.join(members)}")
        return text

    return Kind("enum", EQUAL + LIKE + IN, parse, members)


def plain(hint: Any) -> Any:
    """``hint`` without Annotated and ``| None``; a union of several types stays as it is."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    if get_origin(hint) in (Union, UnionType):
        members = [a for a in get_args(hint) if a is not NoneType]
        return plain(members[0]) if len(members) == 1 else hint
    return hint


def kind_of(hint: Any, column: Column[Any]) -> Kind:
    """The kind of a field of type ``hint`` stored in ``column``. PostgreSQL's uuid columns take uuids
    only."""
    of = plain(hint)
    if isinstance(column.type.dialect_impl(POSTGRES), Uuid):
        return UUID_KIND
    if isinstance(of, type) and issubclass(of, str) and issubclass(of, Enum):
        return enum_kind(of)
    try:
        return SCALARS.get(of, OPAQUE)
    except TypeError:
        return OPAQUE
