"""Cursors: where a page ended, as an opaque text that fits only the query it came from."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2s
from typing import Any

import msgspec

from mgmtnode.errors import ApiError
from mgmtnode.query.errors import BAD_CURSOR
from mgmtnode.query.grammar import check_text
from mgmtnode.query.graph import Field
from mgmtnode.query.kinds import BOOLEAN, INTEGER_KIND, MOMENT, NUMBER, TEXT, UUID_KIND

MAX_CURSOR = 32_768
Body = tuple[str, list[str | int | float | bool | None]]
DECODER = msgspec.json.Decoder(Body)


def fingerprint(type_: str, conditions: Sequence[str], order: object) -> str:
    """Stands for a query in its cursors."""
    text = repr((type_, sorted(conditions), order))
    return blake2s(text.encode(), digest_size=9).hexdigest()


def encode(print_: str, values: Sequence[Any], fields: Sequence[Field]) -> str:
    """A cursor after the row with these values of ``fields``, as the driver gave them."""
    plain = [_plain(value, field) for value, field in zip(values, fields, strict=True)]
    return urlsafe_b64encode(msgspec.json.encode((print_, plain))).rstrip(b"=").decode()


def decode(cursor: str, print_: str, fields: Sequence[Field]) -> list[Any]:
    """The values in ``cursor``, by the kinds of ``fields``. Raises query.bad-cursor."""
    try:
        if len(check_text(cursor, "cursor")) > MAX_CURSOR:
            raise ValueError
        found, values = DECODER.decode(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        if found != print_ or len(values) != len(fields):
            raise ValueError
        return [_value(value, field) for value, field in zip(values, fields, strict=True)]
    except (ValueError, msgspec.DecodeError, ApiError) as exc:
        raise BAD_CURSOR.error(
            "the cursor belongs to another query, or is damaged; begin without one"
        ) from exc


def _plain(value: Any, field: Field) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return bool(value) if field.kind is BOOLEAN and value is not None else value


def _value(value: Any, field: Field) -> Any:
    """A value somebody may have forged: it must be one that the column can be compared with."""
    kind = field.kind
    if value is None and field.nullable:
        return None
    if kind is BOOLEAN and isinstance(value, bool):
        return value
    if kind in (INTEGER_KIND, NUMBER) and isinstance(value, int | float) and not isinstance(value, bool):
        return kind.parse(str(value))
    if isinstance(value, str) and kind in (UUID_KIND, MOMENT):
        return kind.parse(value)
    if isinstance(value, str) and (kind is TEXT or kind.members):
        return check_text(value)
    raise ValueError
