"""Failing scripts become as small as they can."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mgmtnode.testing.simulation.shrink import shrink


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_only_what_the_failure_needs_is_left(count: int, wanted: set[int]) -> None:
    needed = {number for number in wanted if number < count}
    asked = 0

    def fails(parts: Sequence[int]) -> bool:
        nonlocal asked
        asked += 1
        return needed <= set(parts)

    assert shrink(range(count), fails) == sorted(needed)
    assert asked <= count * count + 3 * count + 1


@given(st.sets(st.integers(0, 19), min_size=1))
def test_none_of_what_is_left_can_be_left_out_whatever_makes_it_fail(odd: set[int]) -> None:
    def fails(parts: Sequence[int]) -> bool:
        return len(set(parts) & odd) % 2 == len(odd) % 2 and bool(set(parts) & odd)

    left = shrink(range(20), fails)
    assert fails(left)
    assert not any(fails(left[:i] + left[i + 1 :]) for i in range(len(left)))
