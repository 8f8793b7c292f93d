"""Finding services by their entry points and refusing malformed ones by name, before anything is started."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from mgmtnode.bus.message import ApiCall, ApiJob, Event, Internal, InTx, Message
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.errors import ErrorCode
from mgmtnode.schema import Resource
from mgmtnode.service import ServiceManifest

GROUP = "mgmtnode.services"
PATH_FIELD = re.compile(r"\{(\w+)\}")
KINDS = (Internal, InTx, ApiCall, ApiJob)


class LoadError(Exception):
    """A service is malformed. The text names the file and the fault."""


def discover(
    enabled: Iterable[str] = (), points: Iterable[EntryPoint] | None = None
) -> list[ServiceManifest]:
    """The manifests of the installed services, those they require first. ``enabled`` empty: all of them."""
    wanted = set(enabled)
    found = list(entry_points(group=GROUP) if points is None else points)
    names = [point.name for point in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LoadError(f"service {twice[0]!r} is declared by two entry points")
    if unknown := sorted(wanted - set(names)):
        raise LoadError(f"services.enabled names {unknown[0]!r}; installed are {', '.join(sorted(names))}")
    manifests = [_load(point) for point in found if not wanted or point.name in wanted]
    check(manifests)
    return ordered(manifests)


def _load(point: EntryPoint) -> ServiceManifest:
    try:
        manifest = point.load()
    except Exception as exc:
        raise LoadError(
            f"service {point.name!r} ({point.value}): cannot be imported: {type(exc).__name__}: {exc}"
        ) from exc
    if not isinstance(manifest, ServiceManifest):
        raise LoadError(
            f"service {point.name!r} ({point.value}): is a {type(manifest).__name__}, not a ServiceManifest"
        )
    if manifest.id != point.name:
        raise LoadError(f"service {point.name!r} ({point.value}): its manifest says id {manifest.id!r}")
    return manifest


def ordered(manifests: Iterable[ServiceManifest]) -> list[ServiceManifest]:
    """Required services first, otherwise by id."""
    left = {manifest.id: manifest for manifest in sorted(manifests, key=lambda m: m.id)}
    names, done = set(left), list[ServiceManifest]()
    for manifest in left.values():
        if missing := set(manifest.requires) - names:
            raise LoadError(
                f"{where(manifest)}: requires the service {sorted(missing)[0]!r}, which is not loaded"
            )
    while left:
        ready = [m for m in left.values() if not set(m.requires) & set(left)]
        if not ready:
            raise LoadError(f"services require each other in a circle: {', '.join(sorted(left))}")
        for manifest in ready:
            done.append(left.pop(manifest.id))
    return done


def require(manifests: Iterable[ServiceManifest], strategy: type, key: str, why: str) -> None:
    """Refuses a choice of services in which none has a strategy that the node itself cannot do without."""
    found = (extension for manifest in manifests for extension in manifest.extensions)
    if not any(extension.point is strategy and extension.key == key for extension in found):
        raise LoadError(
            f"services.enabled leaves out what has the {strategy.__name__} {key!r} (among the standard services: "
            f"identity): {why}"
        )


def check(manifests: Iterable[ServiceManifest]) -> None:
    """Refuses what two services, or one service twice, declare."""
    seen: dict[tuple[str, str], str] = {}
    for manifest in manifests:
        for kind, name in _declared(manifest):
            if other := seen.get((kind, name)):
                raise LoadError(f"{where(manifest)}: the {kind} {name!r} is declared already, by {other}")
            seen[kind, name] = where(manifest)
        _check_tables(manifest)
        _check_routes(manifest)
        _check_cascade(manifest)


def _declared(manifest: ServiceManifest) -> Iterator[tuple[str, str]]:
    yield "service", manifest.id
    for module in manifest.contract:
        yield "contract", module.__name__
        for code in values(module, ErrorCode):
            yield "error code", code.id
        for resource in values(module, Resource):
            yield "resource type", resource.type
            yield "path", f"GET /{resource.plural}"
            yield "path", f"GET /{resource.plural}/{{}}"
        for message in messages(module):
            if issubclass(message, ApiJob | ApiCall):
                api = api_of(message, manifest)
                yield "API", api.name
                if not (issubclass(message, ApiJob) and message.internal):
                    yield "path", f"{api.verb} {PATH_FIELD.sub('{}', api.path)}"
    for config in manifest.config:
        yield "global config", config.name
    for prop in manifest.properties:
        yield "global property", prop.name
    for tag in manifest.tags:
        yield "system tag", f"{tag.on}: {tag.format}"
    for table in manifest.tables:
        yield "table", table.name


def _check_tables(manifest: ServiceManifest) -> None:
    types = {
        resource.type
        for module in manifest.contract
        for resource in values(module, Resource)
        if resource.backed
    }
    tables = {table.info.get("resource_type", table.name) for table in (*manifest.tables, *CORE_TABLES)}
    if missing := sorted(types - tables):
        raise LoadError(
            f"{where(manifest)}: resource type {missing[0]!r} has no table among {sorted(tables)}"
        )
    if manifest.tables and not manifest.migrations:
        raise LoadError(f"{where(manifest)}: has tables but names no package with migrations")


def _check_routes(manifest: ServiceManifest) -> None:
    for module in manifest.contract:
        for message in messages(module):
            if message.route.field and message.route.field not in message.__struct_fields__:
                raise LoadError(
                    f"{file_of(message)}: {message.__name__} has no field {message.route.field!r} to route by"
                )


def _check_cascade(manifest: ServiceManifest) -> None:
    tables = {table.name: table for table in manifest.tables}
    for rule in manifest.cascade:
        column = tables[rule.child].columns.get(rule.column) if rule.child in tables else None
        if column is None:
            raise LoadError(
                f"{where(manifest)}: cascade of {rule.parent!r}: it has no column {rule.child}.{rule.column}"
            )
        if column.info.get("ref") != rule.parent:
            raise LoadError(
                f"{where(manifest)}: cascade: {rule.child}.{rule.column} does not refer to {rule.parent!r}"
            )


def api_of(message: type[ApiJob[Any]] | type[ApiCall[Any]], manifest: ServiceManifest) -> Any:
    """The Api declaration of a message, or a LoadError."""
    api = getattr(message, "api", None)
    if api is None:
        raise LoadError(f"{file_of(message)}: {message.__name__} of service {manifest.id!r} declares no api")
    for field in PATH_FIELD.findall(api.path):
        if field not in message.__struct_fields__:
            raise LoadError(
                f"{file_of(message)}: {message.__name__} has no field {field!r}, which its path names"
            )
    target = message.target if issubclass(message, ApiJob) and not message.creates else ""
    if target and target not in message.__struct_fields__:
        raise LoadError(f"{file_of(message)}: {message.__name__} has no field {target!r} to route by")
    return api


def values(module: ModuleType, kind: type[Any]) -> list[Any]:
    """The module's own top-level values of a type: its resources, its error codes."""
    return [value for value in vars(module).values() if isinstance(value, kind)]


def messages(module: ModuleType) -> list[type[Message[Any]]]:
    """The message classes a contract module defines, without abstract bases."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Message)
        and value.__module__ == module.__name__
        and issubclass(value, KINDS)
        and not getattr(value, "__abstract__", False)
    ]


def events(module: ModuleType) -> list[type[Event]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Event) and value.__module__ == module.__name__
    ]


def where(manifest: ServiceManifest) -> str:
    """The file a service comes from, for messages."""
    return f"service {manifest.id!r} ({file_of(manifest.service)})"


def file_of(thing: Any) -> str:
    try:
        return inspect.getsourcefile(thing) or str(thing)
    except TypeError:
        return str(thing)
