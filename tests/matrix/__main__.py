"""Command line of the matrix of faults and places: see ``scripts/fault-matrix``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.matrix.cells import DEAD, FAULTS, Cell, expected, live
from tests.matrix.points import Phase
from tests.matrix.running import Outcome, run
from tests.simulation.mutants import MUTANTS

DEAD_MARK, OK, WRONG = "·", "ok", "WRONG"


def main() -> int:
    options = _options()
    cells = [cell for cell in live() if options.cell in ("", str(cell))]
    began, wrong = time.process_time(), dict[Cell, str]()
    for cell in cells:
        outcome = run(cell, options.mutant)
        if options.cell:
            print(outcome.trace, end="")
        if found := _wrong(cell, outcome):
            wrong[cell] = found
            print(f"{cell}: {found}", flush=True)
            if options.first:
                return 1
    _table(cells, wrong)
    seconds = time.process_time() - began
    print(f"{len(cells)} cells with their variants, {len(wrong)} wrong, {seconds:.0f} s of one core")
    return int(bool(wrong) or not cells)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fault-matrix", description="Each fault at each place of a create, in virtual time."
    )
    parser.add_argument("--cell", default="", help="this one only, with its trace")
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="with this guard off")
    parser.add_argument("--first", action="store_true", help="ends at the first cell that is wrong")
    parser.add_argument("--dead", action="store_true", help="prints which cells mean nothing, and why")
    options = parser.parse_args()
    if options.dead:
        for (fault, phase), why in DEAD.items():
            print(f"{fault:<28} {phase:<10} {why}")
        sys.exit()
    return options


def _wrong(cell: Cell, outcome: Outcome) -> str:
    if outcome.struck is None:
        return "its place was not reached"
    if outcome.wrong:
        return outcome.wrong[0]
    return "" if outcome.ended in expected(cell) else f"the create is {outcome.ended}"


def _table(cells: list[Cell], wrong: dict[Cell, str]) -> None:
    print(f"{'':<28}", *(f"{phase:<10}" for phase in Phase))
    for fault in FAULTS:
        marks = []
        for phase in Phase:
            here = [cell for cell in cells if (cell.fault, cell.phase) == (fault, phase)]
            mark = WRONG if any(cell in wrong for cell in here) else f"{OK} {len(here)}"
            marks.append(mark if here else DEAD_MARK)
        print(f"{fault:<28}", *(f"{mark:<10}" for mark in marks))


if __name__ == "__main__":
    sys.exit(main())
