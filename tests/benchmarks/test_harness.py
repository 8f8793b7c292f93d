"""The harness of the benchmarks: turns, peers that fail, comparison with an older run, tables and plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.benchmarks import compare, figures, page, plots, tables
from scripts.benchmarks.figures import OURS, Figure, Section, new_section
from scripts.benchmarks.rounds import PeerFailed, Run, Sample, Trial

CASE = "500 B, 1 outstanding"


def make_section(*found: Figure, name: str = "bus") -> Section:
    section = new_section(name, "Calls", "About calls.", quick=True, rounds=3)
    section.figures = list(found)
    return section


def timed(*runs: float, what: str = "p50", unit: str = "ms", who: str = OURS, case: str = CASE) -> Figure:
    return Figure(case, who, what, unit, list(runs))


def worse(old: Sequence[Figure], new: Sequence[Figure]) -> list[str]:
    found = compare.changes([make_section(*old)], [make_section(*new)])
    return [change.new.what for change in found if change.regression]


def test_every_one_warms_up_and_then_has_its_turn_in_each_round_in_another_order() -> None:
    order: list[str] = []

    def trial(who: str) -> Trial:
        def once() -> Sample:
            order.append(who)
            return {"p50, ms": float(len(order))}

        return once

    section = make_section()
    Run(section).compare(CASE, {who: trial(who) for who in (OURS, "kombu", "nameko")})
    warm, *rounds = [order[at : at + 3] for at in range(0, len(order), 3)]
    assert [sorted(turn) for turn in (warm, *rounds)] == [["kombu", OURS, "nameko"]] * 4
    assert len({turn[0] for turn in rounds}) == 3
    assert [len(figure.runs) for figure in section.figures] == [3, 3, 3]


def test_a_peer_that_fails_is_named_and_left_out_and_the_others_are_measured() -> None:
    def fails() -> Sample:
        raise PeerFailed("no such broker")

    section = make_section()
    Run(section).compare(CASE, {OURS: lambda: {"p50, ms": 1.0}, "nameko": fails})
    assert [figure.who for figure in section.figures] == [OURS]
    (note,) = section.notes
    assert "nameko" in note and "no such broker" in note


def test_the_product_may_not_fail() -> None:
    def fails() -> Sample:
        raise PeerFailed("it ended")

    with pytest.raises(PeerFailed):
        Run(make_section()).compare(CASE, {OURS: fails})


@pytest.mark.parametrize(
    ("old", "new", "regressions"),
    [
        (timed(10, 11, 12), timed(20, 21, 22), ["p50"]),
        (timed(10, 11, 12), timed(11, 13, 14), []),  # the ranges touch
        (timed(10, 11, 12), timed(12.01, 12.02, 12.03), []),  # less than a tenth
        (timed(20, 21, 22), timed(10, 11, 12), []),
        (timed(100, 101, unit="/s"), timed(50, 51, unit="/s"), ["p50"]),
        (timed(50, 51, unit="/s"), timed(100, 101, unit="/s"), []),
        (timed(10, 11, who="kombu"), timed(20, 21, who="kombu"), []),  # not ours
    ],
)
def test_a_regression_is_worse_by_more_than_the_spread_of_the_runs(
    old: Figure, new: Figure, regressions: list[str]
) -> None:
    assert worse([old], [new]) == regressions


def test_a_figure_that_is_counted_may_not_rise_at_all() -> None:
    old, new = (Figure(CASE, OURS, "statements", "", [value], counted=True) for value in (35, 36))
    assert worse([old], [new]) == ["statements"]


def test_runs_of_another_size_are_not_compared() -> None:
    quick, full = make_section(timed(1)), make_section(timed(9))
    full.quick = False
    assert list(compare.changes([quick], [full])) == []


@pytest.mark.parametrize("render", [tables.terminal, tables.markdown])
def test_a_table_has_a_row_for_each_case_and_who_and_a_column_for_each_measure(
    render: Callable[[Section], str],
) -> None:
    section = make_section(
        timed(1, 2, 3), timed(5, 5, 5, what="CPU"), timed(4, 4, 5, who="plain kombu"), timed(1, case="other")
    )
    lines = [line for line in render(section).splitlines() if "2 ±50%" in line or "plain kombu" in line]
    assert len(lines) == 2
    assert OURS in lines[0] and "5 ±0%" in lines[0]


def test_what_was_measured_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    section = make_section(timed(1, 2))
    Run(section).claim("a target", 1.0, "ms", 2.0)
    figures.write(tmp_path / "run.json", [section])
    assert figures.read(tmp_path / "run.json") == [section]


def test_a_plot_draws_a_line_for_each_of_those_compared() -> None:
    section = make_section(
        *(
            timed(value, value * 1.1, who=who, case=case, what=what)
            for who in (OURS, "a & b")
            for case, value in (("500 B, 1 outstanding", 1.0), ("500 B, 1,000 outstanding", 90.0))
            for what in ("calls", "p50")
        )
    )
    drawn = dict(plots.of(section))
    assert sorted(drawn) == ["bus-calls", "bus-latency"]
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2


def test_the_page_keeps_the_last_full_run_of_each_scenario_and_takes_up_single_cases(tmp_path: Path) -> None:
    two = ("500 B, 1 outstanding", "500 B, 100 outstanding")
    first = make_section(*(timed(1, what="calls", unit="/s", case=case) for case in two))
    again = make_section(timed(2, what="calls", unit="/s", case=two[1]))
    first.quick = again.quick = False
    again.only = "100 outstanding"
    page.write([first], tmp_path)
    page.write([make_full(timed(3, case="one VM"), name="create")], tmp_path)
    page.write([again], tmp_path)
    (kept,) = figures.read(tmp_path / "performance" / "bus.json")
    assert [figure.median for figure in kept.figures] == [1, 2]
    text = (tmp_path / "performance.md").read_text()
    assert "one VM" in text and again.only in text
    assert "(performance/bus-calls.svg)" in text and (tmp_path / "performance" / "bus-calls.svg").exists()


def test_a_quick_run_does_not_get_into_the_page(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="full runs"):
        page.write([make_section(timed(1))], tmp_path)


def make_full(*found: Figure, name: str) -> Section:
    section = make_section(*found, name=name)
    section.quick = False
    return section
