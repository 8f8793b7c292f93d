"""Sections as tables: a row for each case and who was compared in it, a column for each thing measured."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.benchmarks.figures import Claim, Figure, Section

Cells = list[list[str]]


def terminal(section: Section) -> str:
    parts = [f"{section.title} ({_runs(section)})", *map(_lined, _tables(section))]
    if section.claims:
        parts.append(_lined(_claims(section.claims)))
    return "\n\n".join([*parts, *section.notes]) + "\n"


def markdown(section: Section, plots: Sequence[str] = ()) -> str:
    """A section of the page. ``plots``: paths of images as seen from the page."""
    parts = [f"## {section.title}", section.about, machine(section)]
    parts += [_piped(cells) for cells in _tables(section)]
    if section.claims:
        parts += ["Against the targets:", _piped(_claims(section.claims))]
    parts += [f"![{section.title}]({plot})" for plot in plots]
    if section.settings:
        parts += ["Settings:", "\n".join(f"- **{who}**: {how}" for who, how in section.settings.items())]
    if section.notes:
        parts.append("\n".join(f"- {note}" for note in section.notes))
    return "\n\n".join(parts) + "\n"


def machine(section: Section) -> str:
    m, runs = section.machine, _runs(section)
    return (
        f"Measured on {section.at[:10]}, {runs}: {m.processor}, {m.cpus} CPUs, {m.memory_gib} GiB, {m.system}, "
        f"Python {m.python}; load {m.load} before the first measurement."
    )


def text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.3g}"


def _runs(section: Section) -> str:
    return (
        f"{'a quick run, ' if section.quick else ''}medians of {section.rounds} rounds ± half of their range"
    )


def _tables(section: Section) -> list[Cells]:
    """Rows whose first measure is the same stand in one table, with the columns of all of them."""
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in section.figures:
        rows.setdefault((figure.case, figure.who), {})[_column(figure)] = figure
    tables: dict[str, list[tuple[tuple[str, str], dict[str, Figure]]]] = {}
    for key, found in rows.items():
        tables.setdefault(next(iter(found)), []).append((key, found))
    return [_without_repeats(_table(table)) for table in tables.values()]


def _table(rows: list[tuple[tuple[str, str], dict[str, Figure]]]) -> Cells:
    columns = list(dict.fromkeys(column for _, found in rows for column in found))
    cells = [["case", "who", *columns]]
    for key, found in rows:
        cells.append([*key, *(_cell(found[column]) if column in found else "" for column in columns)])
    return cells


def _column(figure: Figure) -> str:
    return f"{figure.what}, {figure.unit}" if figure.unit else figure.what


def _cell(figure: Figure) -> str:
    spread = f" ±{figure.spread:.0%}" if len(figure.runs) > 1 and not figure.counted else ""
    return text(figure.median) + spread


def _without_repeats(cells: Cells) -> Cells:
    seen = ""
    for row in cells[1:]:
        seen, row[0] = row[0], "" if row[0] == seen else row[0]
    return cells


def _claims(claims: Sequence[Claim]) -> Cells:
    return [["target", "measured", "bound", ""], *map(_claim, claims)]


def _claim(claim: Claim) -> list[str]:
    sense, unit = "≥" if claim.at_least else "≤", f" {claim.unit}".rstrip()
    return [claim.text, text(claim.value) + unit, f"{sense} {text(claim.bound)}{unit}", claim.verdict]


def _lined(cells: Cells) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _piped(cells: Cells) -> str:
    head, *rows = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([head, "|" + "---|" * len(cells[0]), *rows])
