"""Command line of the interleavings: see ``scripts/interleave``."""

from __future__ import annotations

import argparse
import logging
import sys

from mgmtnode.testing.servers import PostgresServer
from tests.interleavings.mutants import MUTANTS
from tests.interleavings.playing import Result, Theatre, theatre
from tests.interleavings.scenarios import SCENARIOS
from tests.interleavings.scene import small_ring
from tests.interleavings.twins import on_postgresql, on_sqlite

HEAD = ("scenario", "sessions", "orders", "alike", "steps", "deadlocks", "seconds", "wrong")


def main() -> int:
    options = _options()
    logging.disable()  # what is refused in some order is no news
    if options.twins:
        return _twins(options.twins)
    with PostgresServer() as server, theatre(server.create_database("interleavings")) as stage:
        return _mutants(stage) if options.mutants else _all(stage, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/interleave",
        description="Runs stored operations on PostgreSQL in all orders of their statements.",
    )
    parser.add_argument("only", nargs="*", metavar="SCENARIO", help="only those whose name contains this")
    parser.add_argument("--full", action="store_true", help="also orders that cannot come to anything else")
    parser.add_argument("--limit", type=int, default=0, help="orders of a scenario, at most (0: all)")
    parser.add_argument("--mutants", action="store_true", help="is it noticed if a guard is off?")
    parser.add_argument(
        "--twins", type=int, default=0, metavar="N", help="N random walks on both databases instead"
    )
    return parser.parse_args()


def _all(stage: Theatre, options: argparse.Namespace) -> int:
    wanted = [name for name in SCENARIOS if not options.only or any(word in name for word in options.only)]
    _row(HEAD)
    total, failed = Result(), 0
    for name in wanted:
        result = stage.play(SCENARIOS[name], full=options.full, limit=options.limit)
        _row((name, len(SCENARIOS[name].sessions), *_figures(result)))
        total += result
        failed += bool(result.faults)
        print(*result.faults, sep="\n", end="\n" if result.faults else "", flush=True)
    _row((f"{len(wanted)} scenarios", "", *_figures(total)))
    return int(bool(failed) or not wanted)


def _twins(walks: int) -> int:
    """Raises what is different."""
    from tests.interleavings.test_twins import Both, play

    with PostgresServer() as server, small_ring():
        play((on_postgresql(server.create_database("twins")), on_sqlite()), walks, derandomize=False)
    for answer, count in Both.answers.most_common():
        print(f"{answer:<32} {count:>7}")
    print(f"{walks} walks, {Both.answers.total()} operations, and no difference")
    return 0


def _mutants(stage: Theatre) -> int:
    missed = 0
    for name, mutant in MUTANTS.items():
        result = stage.mutant(name)
        shown = [wrong for fault in result.faults for wrong in fault.wrong]
        missed += not shown
        told = f"order {result.count.orders:>3}: {shown[0][:90]}" if shown else "is not noticed"
        print(f"{name:<14} {mutant.what:<52} {mutant.scenario:<34} {told}", flush=True)
    return int(bool(missed))


def _figures(result: Result) -> tuple[object, ...]:
    count = result.count
    return count.orders, count.cut, count.steps, count.deadlocks, f"{result.seconds:.1f}", len(result.faults)


def _row(values: tuple[object, ...]) -> None:
    name, *figures = values
    print(f"{name:<40}", *(f"{figure:>9}" for figure in figures), flush=True)


if __name__ == "__main__":
    sys.exit(main())
