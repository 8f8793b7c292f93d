"""Command line of the simulation: see ``scripts/simulate``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from tests.simulation.campaign import Figures, campaign, caught, small
from tests.simulation.mutants import MUTANTS
from tests.simulation.running import Outcome, run
from tests.simulation.schedule import Schedule, draw

SHOWN = 5  # violations of one schedule


def main() -> int:
    options = _options()
    if options.mutants:
        return _mutants(options)
    if options.schedule or options.seed is not None:
        return _one(options)
    return _many(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description="Runs whole clusters in virtual time and checks what must hold."
    )
    parser.add_argument("--schedules", type=int, default=100, help="how many (100)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in (1)")
    parser.add_argument("--nodes", type=int, default=0, help="nodes at the start; 0: as the seed says")
    parser.add_argument("--seed", type=int, help="run this one, and print its script and trace")
    parser.add_argument("--schedule", type=Path, help="run this script, as --shrink or --json wrote it")
    parser.add_argument("--shrink", action="store_true", help="make it as small as it fails")
    parser.add_argument("--json", type=Path, help="write the (small) script there")
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="with this guard off")
    parser.add_argument("--mutants", action="store_true", help="within how many seeds each guard is missed")
    return parser.parse_args()


def _one(options: argparse.Namespace) -> int:
    schedule = draw(options.seed, options.nodes) if options.schedule is None else _read(options.schedule)
    outcome = run(schedule, options.mutant, hasty=options.shrink)
    if outcome.wrong and options.shrink:
        schedule = small(schedule, options.mutant)
        outcome = run(schedule, options.mutant, hasty=True)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(schedule), indent=1) + b"\n")
    _show(outcome)
    return int(bool(outcome.wrong))


def _read(path: Path) -> Schedule:
    return msgspec.json.decode(path.read_bytes(), type=Schedule)


def _show(outcome: Outcome) -> None:
    schedule = outcome.schedule
    print(f"seed {schedule.seed}, {schedule.nodes} nodes")
    print("faults", *schedule.faults, "requests", *schedule.asks, "trace", sep="\n  ")
    print(*outcome.told(), sep="\n")
    print(f"{outcome.jobs} jobs, {outcome.deeds} host commands, {outcome.seconds:.0f} virtual seconds")
    print(f"trace {outcome.digest}", "failed" if outcome.wrong else "nothing wrong", sep=": ")


def _many(options: argparse.Namespace) -> int:
    figures = Figures()
    seeds = range(options.first, options.first + options.schedules)
    for outcome, cpu in campaign(seeds, nodes=options.nodes, processes=options.jobs):
        figures.add(outcome, cpu)
        if outcome.wrong:
            print(f"seed {outcome.schedule.seed}:", *outcome.wrong[:SHOWN], sep="\n  ", flush=True)
    _table(figures)
    return int(bool(figures.failed))


def _table(figures: Figures) -> None:
    rows = {
        "schedules": figures.schedules,
        "failed": len(figures.failed),
        "jobs": figures.jobs,
        "host commands": figures.deeds,
        "virtual hours": f"{figures.virtual / 3600:.1f}",
        "schedules a minute and core": f"{60 * figures.schedules / max(figures.cpu, 0.001):.0f}",
        "takeover p50, p99 (seconds)": f"{figures.takeover(0.5):.1f}, {figures.takeover(0.99):.1f}",
        "faults": sum(figures.faults.values()),
    } | {f"  {kind}": count for kind, count in sorted(figures.faults.items())}
    for name, value in rows.items():
        print(f"{name:<30} {value:>12}")


def _mutants(options: argparse.Namespace) -> int:
    """Fails if a guard is missed that the checks are known to miss, see ``alone``."""
    blind = 0
    for name, mutant in MUTANTS.items():
        seeds = range(options.first, options.first + options.schedules)
        found, what = caught(name, seeds, nodes=options.nodes)
        told = f"seed {found[0]:>5}: {what[:90]}" if found else f"not within {options.schedules} seeds"
        blind += not found and not mutant.second_line
        print(f"{name:<12} {mutant.what:<48} {told}{' (a second line)' * mutant.second_line}", flush=True)
    return int(bool(blind))


if __name__ == "__main__":
    sys.exit(main())
