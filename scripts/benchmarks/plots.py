"""Lines of what was measured over the size of the case, one for each compared, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module

from scripts.benchmarks.figures import Figure, Section
from scripts.benchmarks.tables import text

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 40, 50
COLOURS = ("#0b57d0", "#c5221f", "#188038", "#b06000", "#8430ce", "#007b83", "#5f6368", "#d01884")


@dataclass(frozen=True)
class Plot:
    """``cases``: case → where it stands on the x axis. ``log``: both axes are logarithmic."""

    name: str
    title: str
    what: str
    x: str
    cases: Mapping[str, float]
    log: bool = True


@dataclass(frozen=True)
class Axis:
    """Values between ``low`` and ``high``, drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        if self.log:
            value, low, high = (math.log10(max(v, 1e-12)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            found = [10.0**power for power in range(first, last + 1)]
        else:
            found = [self.low + (self.high - self.low) * part / 4 for part in range(5)]
        return [tick for tick in found if self.low <= tick * 1.0001 and tick <= self.high * 1.0001]


def of(section: Section) -> Iterator[tuple[str, str]]:
    """(name of the file, SVG) of the plots that a scenario wants and has figures for."""
    scenario = import_module(f"scripts.benchmarks.{section.name}")
    for plot in getattr(scenario, "PLOTS", ()):
        lines = _lines(section, plot)
        if lines and max(map(len, lines.values())) > 1:
            yield f"{section.name}-{plot.name}", _drawn(plot, lines)


Lines = dict[str, list[tuple[float, Figure]]]


def _lines(section: Section, plot: Plot) -> Lines:
    lines: Lines = {}
    for figure in section.figures:
        if figure.what == plot.what and figure.case in plot.cases and figure.median > 0:
            lines.setdefault(figure.who, []).append((plot.cases[figure.case], figure))
    return {who: sorted(points, key=lambda point: point[0]) for who, points in lines.items()}


def _drawn(plot: Plot, lines: Lines) -> str:
    points = [point for line in lines.values() for point in line]
    xs = [x for x, _ in points]
    low = min(figure.low for _, figure in points)
    high = max(figure.high for _, figure in points)
    down, up = _round(low, high, plot.log)
    across = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, plot.log)
    upward = Axis(down, up, HEIGHT - BOTTOM, TOP, plot.log)
    unit = points[0][1].unit
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, f"{plot.title} ({unit})", 'font-size="14"'),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, plot.x, 'text-anchor="middle"'),
        *_grid(across, upward, sorted(set(xs))),
    ]
    for number, (who, line) in enumerate(lines.items()):
        parts += _line(who, line, across, upward, number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _round(low: float, high: float, log: bool) -> tuple[float, float]:
    if not log:
        return 0.0, high * 1.05
    return 10.0 ** math.floor(math.log10(low or 1e-9)), 10.0 ** math.ceil(math.log10(high * 1.0001))


def _grid(across: Axis, upward: Axis, xs: Sequence[float]) -> Iterator[str]:
    for tick in upward.ticks():
        y = upward.at(tick)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield _text(LEFT - 8, y + 4, text(tick), 'text-anchor="end"')
    for x in xs:
        yield _text(across.at(x), HEIGHT - BOTTOM + 18, text(x), 'text-anchor="middle"')


def _line(
    who: str, line: list[tuple[float, Figure]], across: Axis, upward: Axis, number: int
) -> Iterator[str]:
    """The medians joined, with bars from the lowest to the highest run."""
    colour = COLOURS[number % len(COLOURS)]
    at = [(across.at(x), figure) for x, figure in line]
    joined = " ".join(f"{x:.1f},{upward.at(figure.median):.1f}" for x, figure in at)
    yield f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, figure in at:
        low, high = upward.at(figure.low), upward.at(figure.high)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}"/>'
        yield f'<circle cx="{x:.1f}" cy="{upward.at(figure.median):.1f}" r="3" fill="{colour}"/>'
    y = TOP + 10 + 20 * number
    yield f'<rect x="{WIDTH - RIGHT + 20}" y="{y - 9}" width="12" height="12" fill="{colour}"/>'
    yield _text(WIDTH - RIGHT + 38, y + 1, who)


def _text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'
