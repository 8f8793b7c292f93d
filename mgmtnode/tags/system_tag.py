"""Declaring a system tag: exact (``ha``) or with tokens (``staticIp::{l3}::{ip}``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from mgmtnode.errors import Category, ErrorCode

TAG_UNKNOWN = ErrorCode("tag.unknown", Category.INVALID, "no service declares such a system tag")
TAG_INVALID = ErrorCode("tag.invalid", Category.INVALID, "the tag's value does not fit its declaration")
TAG_INHERENT = ErrorCode(
    "tag.inherent", Category.DENIED, "the tag belongs to its service and cannot be changed"
)
TAG_EXISTS = ErrorCode("tag.exists", Category.EXISTS, "the resource already carries this tag")


@dataclass(frozen=True, eq=False)
class SystemTag:
    """One declared tag on resources of type ``on``.

    ``format``: literal text with ``{tokens}``; two formats on one type must not match the same text.
    ``inherent``: only the service sets it. ``unique``: at most one tag of this declaration on a resource (a
    second replaces it only through the service; by API it is refused). ``check(tokens)`` returns what is
    wrong, or None.
    """

    format: str
    on: str
    description: str
    inherent: bool = False
    unique: bool = True
    ephemeral: bool = False
    admin: bool = False
    check: Callable[[dict[str, str]], str | None] | None = field(default=None)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts = re.split(r"\{(\w+)\}", self.format)
        body = "".join(f"(?P<{p}>.+?)" if i % 2 else re.escape(p) for i, p in enumerate(parts))
        return re.compile(body + r"\Z", re.DOTALL)

    @property
    def prefix(self) -> str:
        """The text before the first token; what a stored tag of this declaration starts with."""
        return self.format.partition("{")[0]

    def match(self, text: str) -> dict[str, str] | None:
        """The tokens of ``text``, or None if it is not a tag of this declaration."""
        found = self._regex.match(text)
        return found.groupdict() if found else None

    def render(self, **tokens: str | int) -> str:
        return self.format.format(**tokens)
