from __future__ import annotations

import pytest

from mgmtnode.telemetry.trace_context import Parent, header, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_what_is_written_is_read_again() -> None:
    for sampled in (True, False):
        assert parse(header(TRACE, SPAN, sampled=sampled)) == Parent(TRACE, SPAN, sampled)


def test_a_version_to_come_may_say_more_behind_the_flags() -> None:
    assert parse(f"cc-{TRACE}-{SPAN}-01-more") == Parent(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
    ],
)
def test_what_the_standard_calls_invalid_is_ignored(wrong: str) -> None:
    assert parse(wrong) is None
