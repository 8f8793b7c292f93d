"""Query parameters, read strictly: one that nobody asked for is refused with the nearest name."""

from __future__ import annotations

import math
from typing import Any, get_args, get_origin
from urllib.parse import parse_qsl

from mgmtnode.api.gateway import Listing
from mgmtnode.api.operations import Operation
from mgmtnode.api.problems import BAD_TEXT, INVALID_PARAMETER, UNKNOWN_PARAMETER, nearest
from mgmtnode.errors import ApiError

MOST = 200
PAGE_LIMIT = 1000
PAGE = 100


class Parameters:
    """Take what you know by name, then ``finish``: it refuses the rest."""

    def __init__(self, raw: bytes) -> None:
        self._values: dict[str, list[str]] = {}
        self._asked: list[str] = []
        for name, value in _pairs(raw) if raw else ():
            self._values.setdefault(name, []).append(value)

    def many(self, name: str) -> list[str]:
        self._asked.append(name)
        return self._values.get(name, [])

    def one(self, name: str) -> str | None:
        values = self.many(name)
        if len(values) > 1:
            raise invalid(name, "is given twice")
        return values[0] if values else None

    def flag(self, name: str) -> bool:
        value = self.one(name)
        if value is None:
            return False
        if value not in ("true", "false", "1", "0", ""):
            raise invalid(name, "expected true or false")
        return value not in ("false", "0")

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.one(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdecimal() and len(value) < 10 and low <= int(value) <= high):
            raise invalid(name, f"expected a number from {low} to {high}")
        return int(value)

    def seconds(self, name: str, high: float) -> float:
        """Anything above ``high`` is taken as ``high``."""
        value = self.one(name)
        try:
            number = 0.0 if value is None else float(value)
        except ValueError:
            number = math.nan
        if not number >= 0 or math.isinf(number):
            raise invalid(name, "expected a number of seconds")
        return min(number, high)

    def finish(self) -> None:
        """Raises api.unknown-parameter."""
        for name in self._values:
            if name not in self._asked:
                text = f"there is no parameter {name[:80]!r} here{nearest(name, self._asked)}"
                raise UNKNOWN_PARAMETER.error(text, parameter=name[:80])


def listing(params: Parameters) -> Listing:
    """The parameters of a list; raises api.invalid-parameter or api.unknown-parameter."""
    fields = params.one("fields") or ""
    found = Listing(
        conditions=tuple(params.many("q")),
        sort=params.one("sort") or "",
        limit=params.whole("limit", PAGE, 1, PAGE_LIMIT),
        cursor=params.one("cursor") or "",
        fields=tuple(f.strip() for f in fields.split(",")) if fields else (),
        count=params.flag("count"),
    )
    params.finish()
    return found


def message_fields(params: Parameters, operation: Operation) -> dict[str, Any]:
    """Fields of a GET or DELETE message, still as text; a list is the parameter repeated."""
    fields: dict[str, Any] = {}
    for name, info in operation.fields.items():
        values = params.many(name) if is_list(info.type) else params.one(name)
        if values is not None and values != []:
            fields[name] = values
    return fields


def is_list(kind: Any) -> bool:
    """Whether a field's type is a list, perhaps among others (``list[str] | None``)."""
    origin = get_origin(kind)
    if origin is list or kind is list:
        return True
    return origin is not dict and any(is_list(arg) for arg in get_args(kind))


def invalid(name: str, why: str) -> ApiError:
    return INVALID_PARAMETER.error(f"the parameter {name!r}: {why}", parameter=name)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST)
    except UnicodeDecodeError:
        raise BAD_TEXT.error("the query is not UTF-8 with percent-encoding") from None
    except ValueError:
        raise INVALID_PARAMETER.error(f"more than {MOST} query parameters") from None
    if any("\0" in name or "\0" in value for name, value in pairs):
        raise BAD_TEXT.error("the query holds a NUL character")
    return pairs
