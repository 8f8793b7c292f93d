"""Command line of the benchmarks: one suite, its table on the terminal, its JSON and Markdown in files."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

import msgspec

from scripts.benchmarks.figures import markdown, table

ROOT = Path(__file__).parents[2]


def main() -> int:
    if sys.argv[1:2] in (["bus"], ["query"]):
        return _others(sys.argv.pop(1))
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measures the product on this machine."
    )
    parser.add_argument(
        "suite", choices=["core", "cluster"], help="also: bus, query, each with its own --help"
    )
    parser.add_argument("--quick", action="store_true", help="a small round, to see that everything works")
    parser.add_argument("--only", default="", help="parts whose name has this in it: boot, creates, pages …")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--write-docs", action="store_true", help="write the page of docs/performance")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target was missed")
    options = parser.parse_args()
    suite = import_module(f"scripts.benchmarks.{options.suite}")
    report = suite.run(quick=options.quick, only=options.only)
    print(table(report.figures))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if options.write_docs:
        (ROOT / "docs" / "performance.md").write_text(markdown(report))
    return int(options.strict and bool(report.missed))


def _others(suite: str) -> int:
    if suite == "bus":
        from scripts.benchmarks.bus import main as measure
    else:
        from scripts.benchmarks.query import main as measure
    measure()
    return 0


if __name__ == "__main__":
    sys.exit(main())
