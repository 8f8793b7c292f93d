"""The API as a table built from contracts: what REST paths, AMQP routing keys and OpenAPI share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from re import compile as pattern
from typing import Any, get_args

import msgspec

from mgmtnode.api.problems import INVALID_FIELD, UNKNOWN_API, nearest
from mgmtnode.bus.message import Api, ApiJob, ApiMessage, reply_type
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import JOB
from mgmtnode.schema import FORMS, Resource, references

PATH_FIELD = pattern(r"\{(\w+)\}")
PLACE = pattern(r" - at `\$\.?([^`]*)`$")
UNKNOWN = pattern(r"^Object contains unknown field `([^`]*)`")
SHAPED = pattern(r"^Expected `str` matching regex '(.*)'$")
SHAPES = {repr(form)[1:-1]: words for form, words in FORMS.items()}  # msgspec quotes them so
MISSING = pattern(r"^Object missing required field `([^`]*)`")


@dataclass(frozen=True)
class Operation:
    """One API message as seen from outside."""

    message: type[ApiMessage[Any]]
    addressed: dict[str, Resource] = field(default_factory=dict)  # path fields that are ids of a resource

    @property
    def api(self) -> Api:
        return self.message.api

    @cached_property
    def job(self) -> bool:
        return issubclass(self.message, ApiJob)

    @cached_property
    def once(self) -> bool:
        """Whether it is done once for each idempotency key, and can be tried dry."""
        return self.job or bool(getattr(self.message, "once", False))

    @cached_property
    def creates(self) -> bool:
        return issubclass(self.message, ApiJob) and bool(self.message.creates)

    @cached_property
    def path_fields(self) -> tuple[str, ...]:
        return tuple(PATH_FIELD.findall(self.api.path))

    @cached_property
    def in_query(self) -> bool:
        """Whether fields that are not in the path are query parameters instead of a body."""
        return self.api.verb in ("GET", "DELETE")

    @cached_property
    def fields(self) -> dict[str, msgspec.structs.FieldInfo]:
        """Fields that are not in the path."""
        found = msgspec.structs.fields(self.message)
        return {f.encode_name: f for f in found if f.name not in self.path_fields}

    @cached_property
    def times(self) -> tuple[str, ...]:
        """Fields that may be times."""
        found = msgspec.structs.fields(self.message)
        return tuple(f.name for f in found if f.type is datetime or datetime in get_args(f.type))

    @cached_property
    def reply(self) -> Any:
        return reply_type(self.message)

    @cached_property
    def target(self) -> str | None:
        """The path field with the uuid of the resource that is worked on."""
        if issubclass(self.message, ApiJob) and not self.message.creates:
            return self.message.target
        return self.path_fields[-1] if self.path_fields else None


class Operations:
    """All operations by name, and all resources by type and by plural."""

    def __init__(self, messages: Iterable[type[ApiMessage[Any]]], resources: Iterable[Resource]) -> None:
        self.resources = {r.type: r for r in (*resources, JOB)}
        self.plurals = {r.plural: r for r in self.resources.values()}
        outside = [m for m in messages if not (issubclass(m, ApiJob) and m.internal)]
        self.by_name = {m.api.name: Operation(m, self._addressed(m)) for m in outside}

    def __getitem__(self, name: str) -> Operation:
        """Raises api.unknown-api."""
        found = self.by_name.get(name)
        if found is None:
            raise UNKNOWN_API.error(f"there is no API {name[:80]!r}{nearest(name, self.by_name)}")
        return found

    def _addressed(self, message: type[ApiMessage[Any]]) -> dict[str, Resource]:
        types = {name: ref.type for name, ref in references(message)}
        if issubclass(message, ApiJob) and message.resource_type:
            types[message.target] = message.resource_type
        names = PATH_FIELD.findall(message.api.path)
        if "uuid" in names and "uuid" not in types:
            plural = message.api.path.strip("/").partition("/")[0]
            types["uuid"] = self.plurals[plural].type if plural in self.plurals else ""
        return {n: self.resources[types[n]] for n in names if types.get(n) in self.resources}


def build(operation: Operation, fields: dict[str, Any], *, text: bool = False) -> ApiMessage[Any]:
    """The message with these fields; ``text``: they came as text (query parameters) and are converted.

    Raises api.invalid-field, naming the field.
    """
    try:
        message: ApiMessage[Any] = msgspec.convert(fields, operation.message, strict=not text)
    except msgspec.ValidationError as exc:
        raise invalid(str(exc), operation.message) from None
    for name in operation.times:
        _check_time(name, getattr(message, name))
    return message


def _check_time(name: str, value: Any) -> None:
    """Refuses a time without a zone, and one that is beyond the calendar in UTC."""
    if isinstance(value, datetime):
        try:
            if value.tzinfo is not None and value.astimezone(UTC):
                return
        except OverflowError:
            pass
        text = f"{name}: expected an RFC 3339 time with its zone, such as 2026-01-31T08:00:00Z"
        raise INVALID_FIELD.error(text, field=name)


def invalid(text: str, kind: type[msgspec.Struct]) -> ApiError:
    """msgspec's complaint as an error of ours. Its text is the only thing it tells, hence the parsing."""
    found = PLACE.search(text)
    place, why = (found[1], text[: found.start()]) if found else ("", text)
    inside = f"{place}." if place else ""
    if unknown := UNKNOWN.match(text):
        name = inside + unknown[1][:80]
        hint = "" if place else nearest(unknown[1], kind.__struct_encode_fields__)
        return INVALID_FIELD.error(f"there is no field {name!r}{hint}", field=name)
    if missing := MISSING.match(text):
        name = inside + missing[1]
        return INVALID_FIELD.error(f"the field {name!r} is required", field=name)
    if shaped := SHAPED.match(why):
        why = f"expected {SHAPES.get(shaped[1], 'the form ' + shaped[1])}"
    why = why[:1].lower() + why[1:].replace("`", "")
    return INVALID_FIELD.error(f"{place or 'the request'}: {why}", field=place)
