"""Examples for messages: made from the types and the field names, and shown only if the parser takes them."""

from __future__ import annotations

from typing import Any

import msgspec

from mgmtnode.api.operations import Operation

UUID = "0190f3a2-7c1e-7d3b-9a55-5b2f6c8e4d10"
URL = "https://example.org/image.qcow2"
TEXTS = (UUID, "example", "10.0.0.10", "10.0.0.0/24", "52:54:00:12:34:56", URL, "example-1234")
NUMBERS = (1, 2, 4096, 1 << 30, 443)


def example(operation: Operation) -> dict[str, Any] | None:
    """A body with the required fields, or, for a patch, with its first field. None if none comes to mind."""
    path = dict.fromkeys(operation.path_fields, UUID)
    chosen = [info for info in operation.fields.values() if info.required]
    if operation.api.verb == "PATCH":
        chosen = list(operation.fields.values())[:1]
    if not chosen:
        return None
    body = {info.encode_name: _value(info.type, info.name) for info in chosen}
    try:
        msgspec.convert(body | path, operation.message)
    except msgspec.ValidationError:
        return None
    return body


def _value(kind: Any, name: str) -> Any:
    """The first value of a small stock that fits the type."""
    named: tuple[Any, ...] = (f"my-{name}",) if name.endswith("name") else ()
    for value in (*named, *TEXTS, *NUMBERS, True, [], {}):
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            continue
        return value
    return _of_choices(kind)


def _of_choices(kind: Any) -> Any:
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.EnumType):
        return next(iter(info.cls)).value
    if isinstance(info, msgspec.inspect.LiteralType):
        return info.values[0]
    if isinstance(info, msgspec.inspect.StructType):
        return {f.encode_name: _value(_hint(info.cls, f.name), f.name) for f in info.fields if f.required}
    return None


def _hint(struct: type[msgspec.Struct], name: str) -> Any:
    return next(f.type for f in msgspec.structs.fields(struct) if f.name == name)
