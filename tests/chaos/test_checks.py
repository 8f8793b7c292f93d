"""The campaign's plan and its checks, without a cluster: the same seed is the same plan, and what is wrong is seen."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import checks
from tests.chaos.bounds import LIMITS, of_measured
from tests.chaos.history import Answered, Asked, Ended, Entry, History, Measured, Saw, read
from tests.chaos.logs import Logs
from tests.chaos.plan import NODE_KINDS, Kind, Plan

CYCLES = 60


class Books:
    """The answers of a database, by a word of the question."""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self._answers = answers

    def rows(self, sql: str) -> list[Any]:
        return next((rows for word, rows in self._answers.items() if word in sql), [])


def asked(key: str) -> Asked:
    return Asked(at=1.0, key=key, client="c", account="acme", method="POST", path="/v1/vms")


def answered(key: str, status: int, job: str = "", code: str = "") -> Answered:
    return Answered(at=2.0, key=key, status=status, job=job, code=code)


def test_a_seed_decides_the_plan_and_another_seed_another_one() -> None:
    plans = [list(islice(Plan(seed, 3).cycles(), 5)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_plan_plays_every_kind_and_leaves_one_node_alone(nodes: int) -> None:
    played = Counter[Kind]()
    for cycle in islice(Plan(7, nodes).cycles(), CYCLES):
        played.update(fault.kind for fault in cycle)
        down = [fault for fault in cycle if fault.kind in NODE_KINDS and fault.victim.startswith("node")]
        for fault in down:
            others = {o.victim for o in down if o.at <= fault.at <= o.end}
            assert len(others) < nodes
        for one in cycle:
            same = [o for o in cycle if o is not one and o.victim == one.victim]
            assert all(o.end < one.at or one.end < o.at for o in same)
    assert played.keys() == set(Kind)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    entries: list[Entry] = [
        asked("k"),
        answered("k", 202, "j"),
        Ended(at=3.0, job="j", state="Succeeded"),
        Saw(at=4.0, account="acme", resources=["v"]),
        Measured(at=5.0, process="node-1", figures={"rss": 1.0}),
    ]
    history = History(tmp_path / "history.jsonl")
    for entry in entries:
        history.note(entry)
    history.close()
    assert list(read(history.path)) == entries


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([asked("k"), answered("k", 202, "a"), answered("k", 202, "b")], "I6"),
        ([asked("k"), answered("k", 500)], "I18"),
        ([asked("k"), answered("k", 409, code="core.internal")], "I18"),
        ([asked("k"), answered("k", 503)], "I18"),
        ([asked("k"), answered("k", 0), answered("k", 429)], "I18"),
        ([Ended(at=1.0, job="j", state="Failed")], "I4"),
        ([Saw(at=1.0, account="umbrella", resources=["v"])], "I19"),
    ],
)
def test_what_is_wrong_in_a_history_is_found(entries: list[Entry], found: str) -> None:
    books = Books({"state FROM job": [("j", "Succeeded")], "resource_uuid, r.name": [("v", "acme")]})
    told = list(checks.of_history(entries, books))  # type: ignore[arg-type]  # only its rows are asked for
    assert told and all(line.startswith(found) for line in told)


@pytest.mark.parametrize(
    "entries",
    [
        [asked("k"), answered("k", 503), answered("k", 202, "j"), Ended(at=3.0, job="j", state="Succeeded")],
        [asked("k"), answered("k", 0), answered("k", 409, code="vm.state")],
        [answered("GET /v1/vms", 503)],
        [Saw(at=1.0, account="acme", resources=["v"]), Saw(at=1.0, account="admin", resources=["v", "w"])],
    ],
)
def test_what_is_right_in_a_history_is_not_held_against_it(entries: list[Entry]) -> None:
    books = Books({"state FROM job": [("j", "Succeeded")], "resource_uuid, r.name": [("v", "acme")]})
    assert list(checks.of_history(entries, books)) == []  # type: ignore[arg-type]


def test_jobs_that_failed_of_what_nobody_foresaw_are_found() -> None:
    failed = [("j", "vm.create", "core.internal", "{}"), ("k", "vm.stop", "vm.wrong-state", "{}")]
    books = Books({"error::text": failed, "idempotency_key": [("a", "k", 2)]})
    assert [line[:3] for line in checks.of_database(books)] == ["I18", "I6:"]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LIMITS)
def test_a_node_that_holds_too_much_is_found(name: str) -> None:
    measured = Measured(at=1.0, process="node-1", figures={name: LIMITS[name] + 1})
    assert list(of_measured([measured])) and not list(
        of_measured([Measured(at=1.0, process="n", figures={})])
    )


def test_tracebacks_in_logs_are_found_once(tmp_path: Path) -> None:
    log = tmp_path / "node-1.log"
    (tmp_path / "agents.log").write_text("")
    log.write_text("ERROR vm 3 failed\nTask exception was never retrieved\n")
    logs = Logs(tmp_path)
    assert [line[:4] for line in logs.findings()] == ["LOG:"]
    assert list(logs.findings()) == []
    assert logs.errors == {"ERROR vm … failed": 1}
