"""Declaring what the deletion of a parent does to its children, and walking it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mgmtnode.bus.message import ApiJob


@dataclass(frozen=True, slots=True)
class Doomed:
    """One child of a resource that is being deleted. ``root`` is the type where the deletion began."""

    uuid: str
    parent_uuid: str
    root: str
    force: bool


@dataclass(frozen=True, slots=True)
class OnDelete:
    """``column`` of table ``child`` refers to ``parent``. When a parent is deleted, each child gets the job that
    ``act`` returns, or, with ``nullify``, its column is emptied in the parent's last transaction."""

    child: str
    column: str
    parent: str
    act: Callable[[Doomed], ApiJob[Any]] | None = None
    nullify: bool = False
