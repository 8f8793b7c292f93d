"""What a routing key names: an API of a contract, or one of the reads that every resource has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from mgmtnode.api.gateway import Listing
from mgmtnode.api.operations import Operation, Operations, invalid
from mgmtnode.api.parameters import MOST, PAGE, PAGE_LIMIT
from mgmtnode.api.problems import UNKNOWN_API, nearest
from mgmtnode.jobs.job import JOB
from mgmtnode.schema import Resource

S = TypeVar("S", bound=msgspec.Struct)


class ListFields(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The body of a list: the parameters that REST has in the query."""

    q: Annotated[list[str], Meta(max_length=MOST, description="Conditions that must all hold")] = []
    sort: Annotated[str, Meta(description="Fields with commas, each with - before it to descend")] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT)] = PAGE
    cursor: Annotated[str | None, Meta(description="The next_cursor of the page before")] = None
    fields: Annotated[list[str], Meta(description="Only these fields")] = []
    count: Annotated[bool, Meta(description="Also tell how many match")] = False

    def listing(self) -> Listing:
        return Listing(
            conditions=tuple(self.q),
            sort=self.sort,
            limit=self.limit,
            cursor=self.cursor or "",
            fields=tuple(self.fields),
            count=self.count,
        )


class GetFields(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The body of a read of one."""

    uuid: Annotated[str, Meta(min_length=1, description="Its uuid or, where names are unique, its name")]


@dataclass(frozen=True, slots=True)
class ListRoute:
    resource: Resource


@dataclass(frozen=True, slots=True)
class GetRoute:
    resource: Resource


@dataclass(frozen=True, slots=True)
class CancelRoute:
    """Asks a job to stop."""


Route = Operation | ListRoute | GetRoute | CancelRoute
JOB_CANCEL = f"{JOB.type}.cancel"


class Routes:
    """All routing keys. The names are those that OpenAPI has as operation ids."""

    def __init__(self, operations: Operations) -> None:
        self.by_name: dict[str, Route] = {JOB_CANCEL: CancelRoute()}
        for resource in operations.resources.values():
            self.by_name[f"{resource.type}.list"] = ListRoute(resource)
            self.by_name[f"{resource.type}.get"] = GetRoute(resource)
        self.by_name |= operations.by_name

    def __getitem__(self, name: str) -> Route:
        """Raises api.unknown-api."""
        found = self.by_name.get(name)
        if found is None:
            raise UNKNOWN_API.error(f"there is no API {name[:80]!r}{nearest(name, self.by_name)}")
        return found


def fields_as(kind: type[S], fields: dict[str, Any]) -> S:
    """Raises api.invalid-field."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as exc:
        raise invalid(str(exc), kind) from None
