"""Declaring a global property: a setting of one node, read once at boot from the one file or the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V", int, float, bool, str, list[str])


@dataclass(frozen=True, eq=False)
class GlobalProperty(Generic[V]):
    """One property: ``name`` is ``section.key`` in ``mgmtnode.toml``; the environment's name is
    ``MGMTNODE_SECTION_KEY``. A ``secret`` is never shown and may be read from the file named by ``<key>_file``."""

    name: str
    default: V
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False

    @property
    def env(self) -> str:
        return "MGMTNODE_" + self.name.upper().replace(".", "_").replace("-", "_")
