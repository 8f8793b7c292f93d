"""How long the work of a node waits when the node is gone: virtual seconds, so they are exact."""

from __future__ import annotations

import pytest

from mgmtnode.testing.simulation.faults import Fault, FaultKind
from tests.simulation.running import run
from tests.simulation.schedule import Ask, Kind, Schedule

CREATES = [Ask(at=5.0 + number / 10, client=number, kind=Kind.CREATE, of=number) for number in range(5)]


@pytest.mark.parametrize("seed", range(4))
def test_the_slots_of_a_killed_node_have_a_new_owner_within_eight_seconds(seed: int) -> None:
    """On PostgreSQL two or three: there a lock shows at once that the process is gone."""
    kill = Fault(at=5.5, kind=FaultKind.KILL, target="n2", seconds=60.0)
    outcome = run(Schedule(seed=seed, nodes=3, asks=CREATES, faults=[kill]))
    assert not outcome.wrong and 5.0 <= max(outcome.takeovers) <= 8.0
    assert outcome.trace.count("vm.create is Succeeded") == len(CREATES)


def test_a_node_that_stands_still_is_succeeded_and_ends_when_it_wakes_up() -> None:
    pause = Fault(at=5.5, kind=FaultKind.PAUSE, target="n2", seconds=30.0)
    outcome = run(Schedule(seed=1, nodes=3, asks=CREATES, faults=[pause]))
    assert not outcome.wrong and "n2#1       has ended with 75" in outcome.trace


def test_a_node_that_is_told_to_stop_hands_over_first_and_nobody_waits() -> None:
    stop = Fault(at=5.5, kind=FaultKind.RESTART, target="n2", seconds=60.0)
    outcome = run(Schedule(seed=1, nodes=3, asks=CREATES, faults=[stop]))
    assert not outcome.wrong and not outcome.takeovers
    assert "slots of n2 go to n1" in outcome.trace and "n2#1       has ended with 0" in outcome.trace


def test_a_restart_under_the_same_name_keeps_the_slots() -> None:
    kill = Fault(at=5.5, kind=FaultKind.KILL, target="n2", seconds=0.2)
    outcome = run(Schedule(seed=1, nodes=3, asks=CREATES, faults=[kill]))
    assert not outcome.wrong and not outcome.takeovers
    assert "slots of n2" not in outcome.trace.split("is killed")[1]


def test_a_database_that_was_away_makes_nobody_take_over() -> None:
    away = Fault(at=5.5, kind=FaultKind.DATABASE, seconds=20.0)
    outcome = run(Schedule(seed=1, nodes=3, asks=CREATES, faults=[away]))
    assert not outcome.wrong and "slots of n" not in outcome.trace.split("fault: database")[1]
