"""Command line of the chaos campaign: see ``scripts/chaos``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from tests.chaos.campaign import Campaign, Figures
from tests.chaos.disk import enter_namespace
from tests.chaos.plan import Kind, Plan
from tests.chaos.stage import Stage
from tests.chaos.table import lines

INTERRUPTED = 130


def main() -> int:
    options = _options()
    plan = Plan(options.seed, options.nodes, frozenset(options.only))
    if options.plan:
        for number, faults in enumerate(islice(plan.cycles(), options.plan), 1):
            print(f"cycle {number}", *faults, sep="\n  ")
        return 0
    enter_namespace("tests.chaos")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(options, plan)
    except KeyboardInterrupt:
        print("interrupted; everything that was started has ended", file=sys.stderr)
        return INTERRUPTED


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Breaks a real cluster again and again, and checks what it promises.",
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="cycles begin for so long (3)")
    parser.add_argument("--seed", type=int, default=0, help="decides the faults and what clients do (0)")
    parser.add_argument("--nodes", type=int, default=3, choices=(3, 4, 5), help="management nodes (3)")
    parser.add_argument("--clients", type=int, default=18, help="clients over HTTP (18)")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[*Kind], metavar="KIND", help="faults of these kinds"
    )
    parser.add_argument(
        "--plan", type=int, metavar="CYCLES", help="print the faults of so many cycles, run nothing"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave logs and the history in this new directory"
    )
    return parser.parse_args()


def _run(options: argparse.Namespace, plan: Plan) -> int:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} {text}", flush=True)

    directory = Path(tempfile.mkdtemp(prefix="mgmtnode-chaos-"))
    directory.chmod(0o755)  # the servers' accounts pass through
    figures = Figures()
    try:
        with Stage(directory / "cluster", options.nodes, plan.seed, say) as stage:
            campaign = Campaign(stage, plan, directory, options.clients, say)
            figures = campaign.figures
            try:
                campaign.run(60 * options.minutes)
            finally:
                if options.keep:
                    _keep(directory, options.keep)
            print(*lines(figures), sep="\n", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return int(bool(figures.violations))


def _keep(directory: Path, kept: Path) -> None:
    shutil.copytree(directory / "cluster" / "logs", kept / "logs", dirs_exist_ok=True)
    shutil.copy(directory / "history.jsonl", kept)
    shutil.copy(directory / "cluster" / "agents" / "history.jsonl", kept / "hosts.jsonl")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
