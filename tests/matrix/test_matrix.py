"""A create, and what may go wrong at each of its places: in the end all holds, and it has ended as it should."""

from __future__ import annotations

import pytest

from tests.matrix.cells import DEAD, FAULTS, Cell, expected, live
from tests.matrix.points import Phase
from tests.matrix.running import run


def test_every_fault_meets_every_place_or_it_is_said_why_not() -> None:
    met = {(cell.fault, cell.phase) for cell in live()}
    assert len(FAULTS) == 17 and len(Phase) == 9
    assert met | DEAD.keys() == {(fault, phase) for fault in FAULTS for phase in Phase}
    assert not met & DEAD.keys()


def test_without_a_fault_a_create_succeeds_and_passes_every_place() -> None:
    outcome = run(None)
    assert not outcome.wrong and outcome.ended == "Succeeded"
    assert outcome.passed == list(Phase)


@pytest.mark.parametrize("cell", tuple(live()), ids=str)
def test_all_holds_whatever_goes_wrong_where(cell: Cell) -> None:
    outcome = run(cell)
    assert outcome.struck is not None, "its place was not reached"
    assert not outcome.wrong, (
        f"scripts/fault-matrix --cell '{cell}'\n{outcome.trace[-6000:]}\n{outcome.wrong}"
    )
    assert outcome.ended in expected(cell)


# A guard that is off shows in this cell: scripts/fault-matrix --mutant NAME.
CAUGHT = {
    "memory": "kill-accepting-late",
    "cas": "evict-claimed",
    "key": "client repeats its request-accepting",
}


@pytest.mark.parametrize("mutant", CAUGHT)
def test_a_guard_that_is_off_shows(mutant: str) -> None:
    cell = next(cell for cell in live() if str(cell) == CAUGHT[mutant])
    outcome = run(cell, mutant)
    assert outcome.wrong or outcome.ended not in expected(cell)
