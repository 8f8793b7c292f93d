"""Which implementors the extension points and strategies of a node have."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from mgmtnode.errors import Category, DeclarationError, ErrorCode, log_failure
from mgmtnode.extension.point import Extension

P = TypeVar("P")
log = logging.getLogger(__name__)

STRATEGY_UNKNOWN = ErrorCode(
    "extension.unknown-key", Category.INVALID, "no installed service answers to the key"
)


@dataclass(frozen=True, slots=True)
class Implementor:
    """One object behind a point, and which manifest it comes from."""

    manifest: str
    extension: Extension
    made: Any


class Extensions:
    """Filled by the loader once the services are built, then only read. Order: ``Extension.order``, then
    manifest."""

    def __init__(self) -> None:
        self._points: dict[type, list[Implementor]] = {}
        self._made: dict[type, tuple[Any, ...]] = {}

    def add(self, manifest: str, extension: Extension, service: Any) -> None:
        """Makes the object and checks it against its Protocol. Raises DeclarationError naming manifest
        and part."""
        place = f"{manifest}: {extension.point.__name__}"
        kind = extension.point.__dict__.get("__extension__")
        if kind is None:
            raise DeclarationError(f"{place} is not marked with @extension_point or @strategy")
        if (kind == "strategy") is not bool(extension.key):
            raise DeclarationError(f"{place}: a strategy needs a key, an extension point has none")
        known = self._points.setdefault(extension.point, [])
        taken = [i.manifest for i in known if extension.key and i.extension.key == extension.key]
        if taken:
            raise DeclarationError(f"{place}: the key {extension.key!r} is implemented by {taken[0]} already")
        made = extension.make(service)
        check_shape(place, extension.point, made)
        known.append(Implementor(manifest, extension, made))
        known.sort(key=lambda i: (i.extension.order, i.manifest))
        self._made[extension.point] = tuple(i.made for i in known)

    def all(self, point: type[P]) -> tuple[P, ...]:
        """The implementors of an extension point, in order."""
        return self._made.get(point, ())

    def pick(self, strategy: type[P], key: str) -> P:
        """The one implementor with ``key``. Raises extension.unknown-key naming the known ones."""
        for implementor in self._points.get(strategy, ()):
            if implementor.extension.key == key:
                return implementor.made  # type: ignore[no-any-return]  # its shape was checked when it was added
        known = ", ".join(self.keys(strategy)) or "none is installed"
        raise STRATEGY_UNKNOWN.error(
            f"{strategy.__name__}: unknown {key!r}; known are: {known}", known=self.keys(strategy)
        )

    def keys(self, strategy: type) -> list[str]:
        return sorted(i.extension.key for i in self._points.get(strategy, ()))

    def implementors(self, point: type) -> tuple[Implementor, ...]:
        """For introspection: who implements ``point``, in order."""
        return tuple(self._points.get(point, ()))

    async def notify_each(self, point: type[P], call: Callable[[P], Awaitable[None]]) -> None:
        """Calls every implementor in order; one that fails is logged and the next is called. For
        observers, who have no veto; where one may veto, loop over ``all``."""
        for implementor in self._points.get(point, ()):
            try:
                await call(implementor.made)
            except Exception as exc:
                who = f"{point.__name__} of {implementor.manifest}"
                log_failure(log, exc, "%s failed; the others go on", who)


def check_shape(place: str, point: type, made: object) -> None:
    """Refuses an object without the Protocol's methods, attributes or parameter names."""
    for cls in reversed(point.__mro__):
        if cls in (object, Protocol, Generic):
            continue
        for name in inspect.get_annotations(cls):
            if not name.startswith("_") and not hasattr(made, name):
                raise DeclarationError(f"{place}: {type(made).__name__} has no attribute {name}")
        for name, method in vars(cls).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                _check_method(f"{place}: {type(made).__name__}.{name}", method, getattr(made, name, None))


def _check_method(place: str, declared: Callable[..., Any], made: object) -> None:
    if not callable(made):
        raise DeclarationError(f"{place} is missing")
    if inspect.iscoroutinefunction(declared) is not inspect.iscoroutinefunction(made):
        raise DeclarationError(
            f"{place} must be {'async def' if inspect.iscoroutinefunction(declared) else 'def'}"
        )
    wanted = list(inspect.signature(declared).parameters.values())[1:]
    given = inspect.signature(made).parameters
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in given.values()):
        return
    names = [p.name for p in wanted]
    extra = [p.name for p in given.values() if p.name not in names and p.default is p.empty]
    if list(given)[: len(names)] != names or extra:
        raise DeclarationError(f"{place} takes ({', '.join(given)}), the contract says ({', '.join(names)})")
