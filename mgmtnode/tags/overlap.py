"""Whether some text could be a tag of two formats at once."""

from __future__ import annotations

import re
from functools import cache

ANY, MANY = (
    "\0any",
    "\0many",
)  # one character of any kind; any number of them. No literal is longer than one character


def overlap(first: str, second: str) -> bool:
    """``staticIp::{l3}::{ip}`` and ``staticIp::{l3}`` do: a token stands for one or more characters of
    any kind."""
    return _meet(_symbols(first), _symbols(second))


def _symbols(format_: str) -> tuple[str, ...]:
    symbols: list[str] = []
    for index, part in enumerate(re.split(r"\{(\w+)\}", format_)):
        symbols += (ANY, MANY) if index % 2 else part
    return tuple(symbols)


def _meet(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(first) or j == len(second):
            return {*first[i:], *second[j:]} <= {MANY}
        if MANY in (first[i], second[j]):
            return meet(i + 1, j) or meet(i, j + 1)  # it takes no more, or it takes one symbol of the other
        return (first[i] == second[j] or ANY in (first[i], second[j])) and meet(i + 1, j + 1)

    return meet(0, 0)
