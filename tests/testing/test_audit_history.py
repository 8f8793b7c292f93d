"""The checker of what hosts did would notice a violation, and lets pass what is none."""

from __future__ import annotations

from mgmtnode.testing.audit.history import Line, findings


def line(outcome: str, order: tuple[int, int, int] = (0, 0, 0), fence: int = 1) -> Line:
    return Line(host="h", resource="r", fence=fence, order=order, action="start", outcome=outcome)


def test_orders_that_grow_one_after_the_other_are_fine() -> None:
    assert (
        list(findings([line("started", (1, 1, 1)), line("done", (1, 1, 1)), line("started", (1, 2, 1))]))
        == []
    )


def test_a_command_that_is_done_twice_or_beside_another_or_under_a_lower_fence_is_found() -> None:
    twice = [line("started", (1, 1, 1)), line("done", (1, 1, 1)), line("started", (1, 1, 1))]
    beside = [line("started", (1, 1, 1)), line("started", (1, 2, 1))]
    lower = [line("started", (1, 1, 1), fence=2), line("done", (1, 1, 1), fence=1)]
    assert all(any(found.startswith("I3") for found in findings(lines)) for lines in (twice, beside, lower))


def test_a_command_that_was_cut_off_with_its_host_may_be_done_again_once() -> None:
    again = [line("started", (1, 1, 1)), line("booted"), line("started", (1, 1, 1)), line("done", (1, 1, 1))]
    assert list(findings(again)) == []
    assert list(findings([*again, line("started", (1, 1, 1))])) != []
