"""The strict JSON parser for bodies from outside: says what is wrong and where, and never trips over it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from mgmtnode.api.problems import BAD_TEXT, DUPLICATE_KEY, MALFORMED_JSON, NOT_AN_OBJECT, TOO_DEEP, TOO_LARGE
from mgmtnode.errors import ApiError

LIMIT = 1 << 20
MAX_DEPTH = 64
LONGEST = 80

Place = tuple["Place", str | int] | None


class _Twice(dict[str, Any]):
    """An object that has a key twice, kept until the walk knows where it is."""

    key = ""


CONTAINERS = frozenset({dict, list, _Twice})


class _Refused(ValueError):
    """A number that Python's parser takes and JSON does not."""


def parse(body: bytes, limit: int = LIMIT) -> dict[str, Any]:
    """The object in ``body``. Raises api.too-large, api.bad-text, api.malformed-json, api.too-deep,
    api.duplicate-key or api.not-an-object, with the place in the message and in the details."""
    if len(body) > limit:
        raise TOO_LARGE.error(f"the body has more than {limit} bytes", limit=limit)
    text = _text(body)
    twice: list[_Twice] = []
    value = _decode(text, twice)
    # The walk costs more than the parser and is only needed if something in the text gives reason.
    if twice or "\\u" in text or text.count("{") + text.count("[") > MAX_DEPTH:
        _walk(value)
    if not isinstance(value, dict):
        raise NOT_AN_OBJECT.error(f"the body must be a JSON object, not {_kind(value)}")
    return value


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise BAD_TEXT.error(f"the body is not UTF-8 at byte {exc.start}", byte=exc.start) from None


def _decode(text: str, twice: list[_Twice]) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        return found if len(found) == len(items) else _remember(items, twice)

    decoder = json.JSONDecoder(object_pairs_hook=pairs, parse_constant=_constant, parse_float=_float)
    try:
        return decoder.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as exc:
        raise _malformed(exc) from None
    except _Refused as exc:
        raise MALFORMED_JSON.error(f"{exc} is not a JSON number") from None
    except ValueError:  # an integer of more digits than Python converts
        raise MALFORMED_JSON.error("a number in the body has too many digits") from None


def _remember(items: list[tuple[str, Any]], twice: list[_Twice]) -> _Twice:
    found = _Twice(items)
    seen: set[str] = set()
    for key, _ in items:
        if key in seen:
            found.key = key
            break
        seen.add(key)
    twice.append(found)
    return found


def _constant(text: str) -> float:
    raise _Refused(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Refused(text[:40])
    return value


def _malformed(exc: json.JSONDecodeError) -> ApiError:
    place = f"line {exc.lineno}, column {exc.colno}"
    if "control character" in exc.msg:
        text = f"a text holds a raw control character at {place}"
        return BAD_TEXT.error(text, line=exc.lineno, column=exc.colno)
    return MALFORMED_JSON.error(f"{exc.msg} at {place}", line=exc.lineno, column=exc.colno)


def _walk(root: Any) -> None:
    """Refuses a key twice, a NUL or half a surrogate pair in any text, and more than MAX_DEPTH levels."""
    stack: list[tuple[Any, Place, int]] = [(root, None, 1)]
    while stack:
        value, place, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, dict):
            _check_keys(value, place)
        for key, inner in _items(value):
            if type(inner) is str:
                _check_text(inner, (place, key))
            elif inner and type(inner) in CONTAINERS:
                stack.append((inner, (place, key), depth + 1))


def _items(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _check_keys(found: dict[str, Any], place: Place) -> None:
    for key in found:
        _check_text(key, place)
    if isinstance(found, _Twice):
        at, key = _name(place), found.key[:LONGEST]
        raise DUPLICATE_KEY.error(f"{at} has the key {key!r} twice", place=at, key=key)


def _check_text(text: str, place: Place) -> None:
    wrong = "a NUL character" if "\0" in text else ""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            wrong = "half of a surrogate pair"
    if wrong:
        raise BAD_TEXT.error(f"{_name(place)} holds {wrong}", place=_name(place))


def _name(place: Place) -> str:
    """``$.disks[3].name``. Built only for an error: names for all values would cost too much."""
    parts: list[str] = []
    while place:
        place, key = place
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key[:LONGEST]}")
    return "$" + "".join(reversed(parts))


def _too_deep() -> ApiError:
    return TOO_DEEP.error(f"the body is nested deeper than {MAX_DEPTH} levels", limit=MAX_DEPTH)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
