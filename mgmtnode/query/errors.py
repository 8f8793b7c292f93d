"""The error codes of queries; they name the word that was wrong and the one that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from mgmtnode.errors import ApiError, Category, ErrorCode

UNKNOWN_FIELD = ErrorCode(
    "query.unknown-field", Category.INVALID, "the resource has no such field or relation"
)
UNKNOWN_OPERATOR = ErrorCode("query.unknown-operator", Category.INVALID, "the field has no such operator")
BAD_VALUE = ErrorCode("query.bad-value", Category.INVALID, "the value does not fit the field")
BAD_CURSOR = ErrorCode("query.bad-cursor", Category.INVALID, "the cursor does not belong to this query")
BAD_SORT = ErrorCode("query.bad-sort", Category.INVALID, "the resource cannot be sorted by this")
BAD_LIMIT = ErrorCode("query.bad-limit", Category.INVALID, "a page has 1 to 1000 items")

SHOWN = 80


class GraphError(Exception):
    """The join graph cannot be built from a declaration; the message names its table and column, or field."""


def shown(word: str) -> str:
    """``word`` as it may appear in a message: quoted, and cut when long."""
    return repr(word if len(word) <= SHOWN else word[:SHOWN] + "…")


def unknown(code: ErrorCode, message: str, word: str, known: Iterable[str]) -> ApiError:
    """An error with ``message`` and the nearest of ``known``, if one is near."""
    names = sorted(known)
    near = get_close_matches(word[:SHOWN], names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return code.error(f"{message}{hint}", field=word[:SHOWN], known=names)
