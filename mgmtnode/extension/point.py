"""Declaring extension points and strategies.

An extension point is a Protocol in a contract with any number of implementors, called in order inside the
flow; an implementor may veto by raising an ApiError. A strategy is a Protocol of which exactly one
implementor is picked by key (a hypervisor type, an allocation strategy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

P = TypeVar("P", bound=type)


def extension_point(cls: P) -> P:
    """Marks a Protocol in a contract as an extension point."""
    cls.__extension__ = "point"  # type: ignore[attr-defined]  # a mark on the class, read by the loader
    return cls


def strategy(cls: P) -> P:
    """Marks a Protocol in a contract as a strategy: one implementor per key."""
    cls.__extension__ = "strategy"  # type: ignore[attr-defined]
    return cls


@dataclass(frozen=True, slots=True)
class Extension:
    """In a manifest: ``make(service)`` implements ``point``. Lower ``order`` runs first.

    ``key`` is for strategies: what this implementor is picked by.
    """

    point: type
    make: Callable[[Any], Any]
    order: int = 100
    key: str = ""
