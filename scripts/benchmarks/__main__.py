"""Command line of the benchmarks: scenarios, their tables on the terminal, their JSON, Markdown and plots in files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from scripts.benchmarks import compare, figures, page, tables
from scripts.benchmarks.figures import Section, new_section
from scripts.benchmarks.rounds import ROUNDS, Run

SCENARIOS = ("core", "bus", "accept", "create", "query", "failover", "scale")
SELECTIONS = {"cluster": ("bus", "create", "failover", "scale"), "all": SCENARIOS}
ALONE = ("peers", "guard")
EPILOG = """\
Scenarios: core (the embedded default), bus, accept, create, query, failover, scale.
Selections: cluster = bus create failover scale; all.
Alone: peers installs what is compared, and measures nothing. guard counts statements, commits and messages against
scripts/benchmarks/limits.toml, as CI does.
"""


def main() -> int:
    options = _parser().parse_args()
    if options.selection == ["peers"]:
        return _install_peers()
    if options.selection == ["guard"]:
        from scripts.benchmarks import guard

        return guard.run(record=options.write, show=options.statements)
    if options.rounds < 1:
        raise SystemExit("scripts/bench: --rounds must be at least 1")
    old = figures.read(options.compare) if options.compare else []
    sections = [_measured(name, options) for name in _chosen(options.selection)]
    if options.json:
        figures.write(options.json, sections)
    if options.markdown:
        options.markdown.write_text("\n".join(map(tables.markdown, sections)))
    if options.plots:
        page.write_plots(options.plots, sections)
    if options.write_docs:
        page.write(sections)
    worse = _compared(old, sections) if options.compare else 0
    return int(worse > 0 or (options.strict and any(section.missed for section in sections)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the product on this machine, beside what a user would pick instead.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = [*SCENARIOS, *SELECTIONS, *ALONE]
    parser.add_argument("selection", nargs="+", choices=choices, metavar="SCENARIO", help=", ".join(choices))
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that everything works")
    parser.add_argument("--only", default="", help="cases whose name has this in it, or one of these: A|B")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, with every run, there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write plots there, as SVG")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="exit 1 on regressions since then")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md and its plots")
    parser.add_argument("--write", action="store_true", help="guard: record what is counted as the limits")
    parser.add_argument(
        "--statements", metavar="CHANGE", default="", help="guard: show the SQL of vm.create …"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target was missed")
    return parser


def _chosen(selection: Sequence[str]) -> list[str]:
    names = [name for word in selection for name in SELECTIONS.get(word, (word,))]
    if alone := [name for name in names if name in ALONE]:
        raise SystemExit(f"scripts/bench: {alone[0]} goes alone")
    return list(dict.fromkeys(names))


def _measured(name: str, options: argparse.Namespace) -> Section:
    scenario = import_module(f"scripts.benchmarks.{name}")
    size = {"quick": options.quick, "rounds": options.rounds, "only": options.only}
    section = new_section(name, scenario.TITLE, scenario.ABOUT, **size)
    scenario.measure(Run(section))
    print(tables.terminal(section), flush=True)
    return section


def _compared(old: Sequence[Section], new: Sequence[Section]) -> int:
    """Prints what changed; returns how many are regressions."""
    found = sorted(compare.changes(old, new), key=lambda change: -change.worse)
    if not found:
        raise SystemExit("scripts/bench: nothing to compare: the old run has other scenarios or another size")
    print("Compared with the older run, the worst first:", *found, sep="\n")
    return sum(change.regression for change in found)


def _install_peers() -> int:
    from scripts.benchmarks.peers.environments import REQUIREMENTS, NotInstalled, python_of

    missing = 0
    for peer in REQUIREMENTS:
        try:
            print(f"{peer}: {python_of(peer)}")
        except NotInstalled as reason:
            missing += 1
            print(f"{peer}: DOES NOT INSTALL: {reason}")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
