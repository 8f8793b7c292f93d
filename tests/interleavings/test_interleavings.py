"""Stored operations on PostgreSQL in all orders of their statements; and guards that are off, which that shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Executable
from sqlalchemy.dialects import postgresql

from mgmtnode.events import repository as events
from mgmtnode.jobs import repository as jobs
from mgmtnode.testing.servers import PostgresServer
from tests.interleavings import audit
from tests.interleavings.accesses import ADVISORY, of_statement
from tests.interleavings.mutants import MUTANTS
from tests.interleavings.orders import Explorer
from tests.interleavings.playing import Theatre, theatre
from tests.interleavings.scenarios import SCENARIOS

# Those of few orders, one at least of each operation; ``scripts/interleave`` runs all of them, in some minutes.
QUICK = (
    "claim, claim again",
    "claim, claim the next",
    "begin, cancel",
    "cancel, end as overdue",
    "finish, cancel",
    "finish, claim the next",
    "finish, roll back",
    "step end, cancel",
    "accept, accept under one key",
    "accept, accept a create under one key",
    "accept two together, accept and claim",
    "accept two together, accept them in the other order",
    "accept together under one key, accept",
    "accept where nothing may wait, accept",
    "owe the end, finish, tell",
    "claim, evict and claim",
    "claim, hand over",
    "claim, take overdue",
    "claim, restart",
    "accept, sweep, evict",
    "step end, evict and claim",
    "finish, evict and run",
    "evict, evict",
    "evict, beat",
    "restart, beat",
    "take an address, take it",
    "free an address, take it, take it",
    "reserve, reserve the last",
    "reserve, free",
    "free, free",
    "reserve, shrink the pool",
    "make the pool, make the pool",
    "drop the pool, reserve",
    "owe, free",
    "owe, settle",
    "two hosts settle",
    "event, event",
)
SLOW_MUTANTS = {"fence at once", "cluster lock", "settled", "place"}  # scripts/interleave --mutants
SMALL = ("reserve, free", "two hosts settle")
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(postgres_server: PostgresServer) -> Iterator[Theatre]:
    with theatre(postgres_server.create_database("interleavings")) as stage:
        yield stage
    postgres_server.drop_database("interleavings")


@pytest.mark.parametrize("name", QUICK)
def test_what_must_hold_holds_in_every_order(name: str, stage: Theatre) -> None:
    result = stage.play(SCENARIOS[name])
    assert not result.faults, "\n".join(map(str, result.faults))
    assert result.count.orders > 1


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in SLOW_MUTANTS])
def test_a_guard_that_is_off_shows_in_some_order(name: str, stage: Theatre) -> None:
    result = stage.mutant(name)
    assert result.faults, f"{result.count.orders} orders of {MUTANTS[name].scenario}, and all is well"
    assert any(what.startswith(MUTANTS[name].shows) for fault in result.faults for what in fault.wrong)


def test_the_claim_keeps_jobs_apart_even_where_nobody_waits_for_his_turn(stage: Theatre) -> None:
    """What a claim's row is for, since the look for earlier jobs usually comes first: see the mutant «turns+claim»."""
    result = stage.mutant("turns", everything=True)
    assert not [what for fault in result.faults for what in fault.wrong if not what.startswith("I7")]


@pytest.mark.parametrize("name", SMALL)
def test_orders_that_are_left_out_come_to_what_others_come_to(name: str, stage: Theatre) -> None:
    begin = stage.beginning(SCENARIOS[name])
    few, few_ends = _ends(stage, Explorer(stage.stage, begin))
    all_, all_ends = _ends(stage, Explorer(stage.stage, begin, full=True))
    assert few_ends == all_ends and few < all_


@pytest.mark.parametrize(
    ("statement", "written"),
    [
        (jobs.TAKE_AND_HOLD, {"claim", "job"}),
        (jobs.END["postgresql"], {"claim", "job"}),
        (events.RAISE_AND_APPEND, {"resource", "event"}),
        (jobs.EPOCH, {"ring_slot"}),
        (jobs.LOOK, set()),
        (jobs.TRY_ENQUEUE, {ADVISORY}),
    ],
)
def test_all_tables_that_one_statement_writes_are_seen(statement: Executable, written: set[str]) -> None:
    access = of_statement(str(statement.compile(dialect=postgresql.dialect())))  # type: ignore[attr-defined]
    assert access.locks >= written and bool(access.locks) == bool(written)


def _ends(stage: Theatre, explorer: Explorer) -> tuple[int, set[str]]:
    """How many orders were run, and what they came to: the answers, and the tables."""
    ends = {f"{order.outcomes} {stage.tables.digest()}" for order in explorer.orders()}
    assert not list(audit.wrong(stage.tables))
    return explorer.count.orders, ends
