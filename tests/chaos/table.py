"""What a campaign came to, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.chaos.campaign import Figures, quantile
from tests.chaos.stage import MIB

SHOWN = 20


def lines(figures: Figures) -> Iterator[str]:
    for name, value in _rows(figures):
        yield f"{name:<44} {value:>12}"
    for line, count in figures.errors.most_common(SHOWN):
        yield f"logged {count} times: {line[:200]}"
    yield from (f"VIOLATION {violation}" for violation in figures.violations)


def _rows(figures: Figures) -> Iterator[tuple[str, Any]]:
    yield "cycles", figures.cycles
    yield "jobs", sum(figures.jobs.values())
    yield from ((f"  {state}", count) for state, count in sorted(figures.jobs.items()))
    yield from ((f"    of {code}", count) for code, count in figures.codes.most_common())
    yield "host commands", figures.commands
    yield "requests", figures.requests
    yield "  without an answer", figures.answers[0]
    yield "  5xx", sum(count for status, count in figures.answers.items() if status >= 500)
    yield "  429", figures.answers[429]
    yield "keys that met a 5xx or no answer", figures.troubled
    yield "  resolved", figures.resolved
    yield "  of these after the healing", figures.asked_again
    yield "faults", sum(figures.faults.values())
    yield from ((f"  {kind}", count) for kind, count in sorted(figures.faults.items()))
    yield "COMMITs without an answer", figures.commits
    yield from ((f"nodes that ended with {code}", count) for code, count in sorted(figures.ends.items()))
    for what, values in (("slots", figures.slots), ("jobs", figures.went_on)):
        told = f"{quantile(values, 0.5):.1f}, {quantile(values, 0.99):.1f}"
        yield f"takeover of {what} p50, p99 (s), of {len(values)}", told
    yield "at rest after p50, max (s)", f"{quantile(figures.heal, 0.5):.1f}, {max(figures.heal):.1f}"
    yield "largest node (MiB)", f"{figures.peaks.get('rss', 0) / MIB:.0f}"
    for name, peak in sorted(figures.peaks.items()):
        if name != "rss":
            yield f"  most {name.removeprefix('mgmtnode_')}", f"{peak:.0f}"
    yield "violations", len(figures.violations)
