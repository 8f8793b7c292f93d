"""``mgmtnode doctor``: whether a node can run on this machine, check by check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import click

from mgmtnode.cli import checks
from mgmtnode.cli.checks import Finding, Level
from mgmtnode.cli.settings import config_option, read_all

DEADLINE = 10.0
COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "red"}


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="A JSON list, one object a check.")
def doctor(config_file: Path | None, as_json: bool) -> int:
    """Check Python, packages, data directory, port, database, broker and clock. Changes nothing.

    Exits with 1 if a check failed. Each check has ten seconds.
    """
    properties, manifests = read_all(config_file)
    findings = [Finding("configuration", Level.OK, f"{properties.file}, {len(manifests)} services")]
    for name, check in checks.CHECKS.items():
        findings.append(_within(name, lambda check=check: check(properties)))  # type: ignore[misc]
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        for finding in findings:
            word = click.style(f"{finding.level:<7}", fg=COLOURS[finding.level])
            click.echo(f"{word}  {finding.check:<14}  {finding.text}")
    return 1 if any(finding.level is Level.FAILED for finding in findings) else 0


def _within(name: str, check: Callable[[], tuple[Level, str]]) -> Finding:
    """Runs a check in a thread of its own, so that one that hangs costs ten seconds and not the others."""
    answers: SimpleQueue[Finding] = SimpleQueue()

    def run() -> None:
        try:
            answers.put(Finding(name, *check()))
        except Exception as exc:
            answers.put(Finding(name, Level.FAILED, " ".join(str(exc).split()) or type(exc).__name__))

    Thread(target=run, name=f"check {name}", daemon=True).start()
    try:
        return answers.get(timeout=DEADLINE)
    except Empty:
        return Finding(name, Level.FAILED, f"no answer within {DEADLINE:.0f} s")
