"""The cost of a change in SQL statements, commits and messages: what can be counted may not creep up unnoticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mgmtnode.testing.plugin import servers_are_required
from mgmtnode.testing.servers import PostgresServer, ServerMissing
from scripts.benchmarks import guard
from scripts.benchmarks.guard import Counts

ADVICE = "see what is sent with scripts/bench guard --statements CHANGE; raise a limit only with a reason"


@pytest.mark.integration
def test_no_change_of_a_vm_takes_more_statements_or_commits_than_its_limit(tmp_path: Path) -> None:
    try:
        PostgresServer().find()
    except ServerMissing as missing:
        if servers_are_required():
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    with guard.changes(tmp_path) as changes:
        assert exceeded(changes.count()) == [], ADVICE


def test_no_call_between_nodes_takes_more_messages_than_its_limit() -> None:
    assert exceeded(asyncio.run(guard.calls())) == []


def exceeded(counts: Counts) -> list[str]:
    known = guard.limits()
    return [
        f"{what}: {value} {name}, {known[what][name]} are allowed"
        for what, found in counts.items()
        for name, value in found.items()
        if value > known[what][name]
    ]
