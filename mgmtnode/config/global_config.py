"""Declaring a global config: a setting of the whole cloud that an operator changes while it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast
from uuid import UUID, uuid5

from mgmtnode.errors import Category, ErrorCode

V = TypeVar("V", int, float, bool, str)

RESOURCE_TYPE = "global-config"
NAMESPACE = UUID("5e9bcd66-7ad2-4a55-9c3d-1f6d9a1c8e07")

CONFIG_INVALID = ErrorCode("config.invalid-value", Category.INVALID, "the value does not fit the config")
CONFIG_UNKNOWN = ErrorCode("config.unknown", Category.NOT_FOUND, "there is no such config")
CONFIG_NOT_OVERRIDABLE = ErrorCode(
    "config.not-overridable", Category.INVALID, "the config cannot be overridden on this type of resource"
)


@dataclass(frozen=True, eq=False)
class GlobalConfig(Generic[V]):
    """One config: ``name`` is dotted, category first (``vm.migration_quantity``). ``type(default)`` is its
    type.

    ``unit`` is shown to people (``seconds``, ``bytes``). ``overridable`` lists the resource types that may
    carry a value of their own, nearest first (``("host", "cluster", "zone")``).
    """

    name: str
    default: V
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    overridable: tuple[str, ...] = ()
    check: Callable[[V], str | None] | None = field(default=None, compare=False)

    @property
    def uuid(self) -> str:
        """The config's own uuid as a resource: the same on every installation."""
        return str(uuid5(NAMESPACE, self.name))

    @property
    def category(self) -> str:
        return self.name.partition(".")[0]

    def parse(self, value: object) -> V:
        """``value`` (from JSON or from the stored text) as this config's type; raises
        config.invalid-value."""
        try:
            parsed = self._convert(value)
        except (TypeError, ValueError):
            raise self._bad(value, f"expected {type(self.default).__name__}") from None
        self._bounds(parsed)
        return parsed

    def text(self, value: V) -> str:
        """The stored form of ``value``."""
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _convert(self, value: object) -> V:
        kind = type(self.default)
        if isinstance(value, str) and kind is bool:
            if value.lower() not in ("true", "false"):
                raise ValueError(value)
            return kind(value.lower() == "true")
        if isinstance(value, bool) is not (kind is bool) or isinstance(value, dict | list) or value is None:
            raise TypeError(value)
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError(value)
        if kind is str and not isinstance(value, str):
            raise TypeError(value)
        return kind(cast("Any", value))

    def _bounds(self, value: V) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value != value or (self.low is not None and value < self.low):
                raise self._bad(value, f"expected at least {self.low}")
            if self.high is not None and value > self.high:
                raise self._bad(value, f"expected at most {self.high}")
        if self.choices and value not in self.choices:
            raise self._bad(value, f"expected one of {', '.join(self.choices)}")
        if self.pattern and not re.fullmatch(self.pattern, str(value)):
            raise self._bad(value, f"expected the form {self.pattern}")
        if self.check and (why := self.check(value)):
            raise self._bad(value, why)

    def _bad(self, value: object, why: str) -> Exception:
        return CONFIG_INVALID.error(f"{self.name}: {why}, got {str(value)[:80]!r}", config=self.name)
