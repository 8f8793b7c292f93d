"""Field types that every contract uses, and the declaration of a resource.

Contracts are msgspec structs. A field type carries its constraint (``Meta``), and a field that names another
resource carries ``Ref("cluster")``; both are read by the API, the query engine and the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, dataclass_transform, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "UNSET", "Cidr", "CpuCount", "Data", "Description", "Embed", "Inventory", "IpAddress", "Labels", "MacAddress",
    "Memory", "Name", "Ref", "Resource", "Text", "UnsetType", "Uuid", "changes", "references",
]  # fmt: skip

END = r"$(?!\n)"  # Python's $ alone also matches before a final newline
UUID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}" + END
CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"  # what would break a line of a log or a terminal
OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

Uuid = Annotated[
    str, Meta(pattern=UUID_PATTERN, description="A lower-case uuid", extra_json_schema={"format": "uuid"})
]
Name = Annotated[
    str,
    Meta(min_length=1, max_length=255, pattern=rf"^[^{CONTROL}]*[^{CONTROL}\x20][^{CONTROL}]*" + END),
]
Description = Annotated[str, Meta(max_length=2048)]
Text = Annotated[str, Meta(max_length=65536)]
CpuCount = Annotated[int, Meta(ge=1, le=4096, description="Virtual CPUs")]
Memory = Annotated[int, Meta(ge=1 << 20, le=1 << 50, description="Bytes")]
IpAddress = Annotated[str, Meta(pattern=rf"^{OCTET}(\.{OCTET}){{3}}{END}", description="An IPv4 address")]
Cidr = Annotated[
    str, Meta(pattern=rf"^{OCTET}(\.{OCTET}){{3}}/([12]?[0-9]|3[0-2]){END}", description="An IPv4 network")
]
MacAddress = Annotated[str, Meta(pattern="^[0-9a-f]{2}(:[0-9a-f]{2}){5}" + END, description="A MAC address")]
Labels = list[Annotated[str, Meta(min_length=1, max_length=1024)]]


# What a text that does not match is told to be: nobody should have to read a regular expression.
FORMS: dict[str, str] = {
    UUID_PATTERN: "a lower-case uuid",
    Name.__metadata__[0].pattern: "one line of text that is not all blanks",  # type: ignore[attr-defined]
    IpAddress.__metadata__[0].pattern: "an IPv4 address",  # type: ignore[attr-defined]
    Cidr.__metadata__[0].pattern: "an IPv4 network such as 10.0.0.0/24",  # type: ignore[attr-defined]
    MacAddress.__metadata__[0].pattern: "a lower-case MAC address",  # type: ignore[attr-defined]
}


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Data(msgspec.Struct, kw_only=True, frozen=True):
    """An immutable value in a contract. Unknown fields are ignored: nodes of two releases talk to each other."""


class Inventory(Data):
    """What the API shows of a resource. Every field is a column, a core column, or an embedded back reference."""

    uuid: Uuid
    name: str
    description: str
    created_at: datetime
    updated_at: datetime


InventoryType = type[msgspec.Struct]  # a name of its own: inside Resource, "type" is a field


@dataclass(frozen=True, slots=True)
class Ref:
    """Marks a field (in a contract) as the uuid of a resource of ``type``; the API checks it exists and is visible."""

    type: str


@dataclass(frozen=True, slots=True)
class Embed:
    """Fills a list field of an inventory through a back reference: ``Annotated[list[Nic], Embed("nics")]`` has one
    ``Nic`` for each resource that refers to this one, ``Annotated[list[Uuid], Embed("nics")]`` their uuids."""

    back: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of resource, declared once in its contract.

    ``type`` is the word in references, permissions (``zone.read``) and events; ``plural`` is the word in paths.
    ``owned`` resources belong to the account that made them; the others belong to the operator, and a tenant sees
    one only if it is shared with it. ``unique_name`` makes the name unique over all accounts, and usable as id.
    ``backed=False``: the rows are not resources with an owner (jobs, events): readable, but without a core row.
    """

    type: str
    plural: str
    inventory: InventoryType
    owned: bool = False
    unique_name: bool = False
    backed: bool = True


@cache
def references(struct: type[msgspec.Struct]) -> tuple[tuple[str, Ref], ...]:
    """The fields of ``struct`` that name another resource, as (field, Ref); looks into unions and lists."""
    hints = get_type_hints(struct, include_extras=True)
    return tuple((name, ref) for name in struct.__struct_fields__ for ref in _refs(hints[name]))


def _refs(hint: Any) -> Iterator[Ref]:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, Ref):
            yield meta
    for arg in get_args(hint):
        if not isinstance(arg, Ref | Meta):
            yield from _refs(arg)


def changes(message: msgspec.Struct, *skip: str) -> dict[str, Any]:
    """The fields of a merge patch that the caller did send, without those named in ``skip``."""
    values = {f: getattr(message, f) for f in message.__struct_fields__ if f not in skip}
    return {f: v for f, v in values.items() if v is not UNSET}
