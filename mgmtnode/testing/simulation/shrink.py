"""Making a failing script small: delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
Input", 2002) over its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(parts: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> list[T]:
    """Parts of which none can be left out: without any one of them ``fails`` is false. All of ``parts`` must fail."""
    left, chunks = list(parts), 2
    while left:
        size = -(-len(left) // chunks)
        for start in range(0, len(left), size):
            fewer = left[:start] + left[start + size :]
            if fails(fewer):
                left, chunks = fewer, max(chunks - 1, 2)
                break
        else:
            if size == 1:
                break
            chunks = min(2 * chunks, len(left))
    return left
