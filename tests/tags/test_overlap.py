from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmtnode.tags.overlap import overlap
from mgmtnode.tags.system_tag import SystemTag


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("ha", "ha", True),
        ("ha", "haa", False),
        ("ha", "{word}", True),
        ("staticIp::{l3}::{ip}", "staticIp::{l3}", True),
        ("hostname::{name}", "bootOrder::{order}", False),
        ("os::{name}", "os::", False),
        ("a{x}", "{y}b", True),
        ("a{x}c", "a{x}d", False),
        ("{a}::{b}", "x", False),
        ("{a}-{b}-{c}", "--", False),
        ("{a}-{b}-{c}", "-----", True),
    ],
)
def test_formats_overlap_when_some_text_is_of_both(first: str, second: str, expected: bool) -> None:
    assert overlap(first, second) is expected
    assert overlap(second, first) is expected


PIECE = st.sampled_from(["a", "b", "ab", ":", "{x}"])


def formats() -> st.SearchStrategy[str]:
    def number(pieces: list[str]) -> str:
        return "".join(p.replace("{x}", f"{{t{n}}}") for n, p in enumerate(pieces))

    return st.lists(PIECE, min_size=1, max_size=5).map(number)


@given(formats(), formats(), st.text("ab:", min_size=1, max_size=8))
def test_whatever_two_tags_both_match_is_reported(first: str, second: str, text: str) -> None:
    both = [SystemTag(f, "box", "").match(text) is not None for f in (first, second)]
    assert not all(both) or overlap(first, second)
