"""Making a world small enough for hundreds of schedules a minute, without changing what its nodes do.

The ring has fewer slots, which move in smaller batches: the protocol does not depend on how many there are, and
resources meet in one slot more often. Hosts forget ended commands sooner. And what all nodes of a process would find
out anew at each boot, all of them with the same result, is found out once: the checks of the declarations, the query
graph and the statements it writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, cast
from unittest import mock

from mgmtnode import handlers, parts
from mgmtnode.cluster import repository
from mgmtnode.extension import registry
from mgmtnode.jobs import floor
from mgmtnode.ring import hash_ring, slots
from mgmtnode.service import Service, ServiceManifest

SLOTS = 32
BATCH = 4
SETTLED_SECONDS = 5.0  # longer than any transaction lasts here


@contextmanager
def small_world() -> Iterator[None]:
    """While it lasts, in this process."""
    changes: Sequence[tuple[Any, str, Any]] = (
        (slots, "SLOTS", SLOTS),
        (repository, "SLOTS", SLOTS),
        (repository, "propose", _propose),
        (floor, "SETTLED_SECONDS", SETTLED_SECONDS),
        (parts, "query_over", _query_over),
        (handlers, "marked", _marked),
        (handlers, "where", _where),
        (handlers, "_check_shape", _nothing),
        (handlers, "_check_reply", _nothing),
        (handlers, "_check_complete", _nothing),
        (registry, "check_shape", _nothing),
    )
    with ExitStack() as stack:
        for owner, name, value in changes:
            stack.enter_context(mock.patch.object(owner, name, value))
        slots.slot_of.cache_clear()
        stack.callback(slots.slot_of.cache_clear)
        yield


def _nothing(*checked: Any) -> None:
    """The node that made the site has checked it."""


def _propose(nodes: Iterable[str]) -> list[str]:
    return list(_proposed(tuple(sorted(nodes))))


@cache
def _proposed(nodes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(hash_ring.propose(nodes, SLOTS))


_written: dict[int, tuple[Any, Any]] = {}
_query = parts.query_over


def _query_over(manifests: Sequence[ServiceManifest], resources: Any) -> Any:
    """One for all nodes: it knows the declarations and nothing else."""
    if id(manifests) not in _written:
        _written[id(manifests)] = manifests, _query(manifests, resources)
    return _written[id(manifests)][1]


@cache
def _marks(service: Any) -> tuple[tuple[str, Callable[..., Any]], ...]:
    found = inspect.getmembers(service, inspect.isfunction)
    return tuple((name, function) for name, function in found if hasattr(function, "__mark__"))


@cache
def _message(function: Callable[..., Any]) -> Any:
    mark = function.__mark__  # type: ignore[attr-defined]
    return handlers.annotation(function, "event" if mark.kind == "subscribe" else "msg", None)  # type: ignore[arg-type]


def _marked(manifest: ServiceManifest, service: Service) -> list[handlers.Bound]:
    return [
        handlers.Bound(_message(function), getattr(service, name), function.__mark__, service)  # type: ignore[attr-defined]
        for name, function in _marks(cast(Any, type(service)))
    ]


def _where(manifest: ServiceManifest) -> str:
    return f"service {manifest.id!r}"
