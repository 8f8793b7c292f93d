"""The checks of the protocol's invariants: each finds its violation when one is planted, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mgmtnode.db.engine import open_database
from mgmtnode.db.schema import upgrade
from mgmtnode.loader import discover
from mgmtnode.ports import SystemClock
from mgmtnode.testing.audit import books, history, trail
from mgmtnode.testing.audit.records import Records
from mgmtnode.testing.audit.trail import JobChange, SlotChange

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = "2026-01-01 00:00:00.000000"


def at(second: int) -> datetime:
    return BEGAN + timedelta(seconds=second)


# what is in the database

Sql = Callable[[str], None]


def job(uuid: str, state: str, api: str = "vm.create", resource: str = "vm-1") -> str:
    return (
        "INSERT INTO job (uuid, account_uuid, caller, idempotency_key, api, payload, resource_type, resource_uuid,"
        " slot, state, cancel_requested, deadline_at, accepted_at)"
        f" VALUES ('{uuid}', 'a', '{{}}', 'key {uuid}', '{api}', '{{}}', 'vm', '{resource}', 0, '{state}', 0,"
        f" '{NOW}', '{NOW}')"
    )


def resource(uuid: str, type: str = "vm") -> str:
    return (
        "INSERT INTO resource (uuid, type, name, account_uuid, created_at, updated_at)"
        f" VALUES ('{uuid}', '{type}', 'x', 'a', '{NOW}', '{NOW}')"
    )


def allocation(
    kind: str, amount: int, *, state: str = "LIVE", holder: str = "vm-1", unit: str = "NULL"
) -> str:
    return (
        "INSERT INTO allocation (uuid, resource_uuid, pool_uuid, kind, amount, unit, state)"
        f" VALUES ('{kind} {holder}', '{holder}', 'host-1', '{kind}', {amount}, {unit}, '{state}')"
    )


def event(revision: int) -> str:
    return (
        "INSERT INTO event (xid, resource_uuid, revision, resource_type, name, account_uuid, at, body)"
        f" VALUES (1, 'vm-1', {revision}, 'vm', 'vm.x', 'a', '{NOW}', '{{}}')"
    )


POOL = "INSERT INTO pool (resource_uuid, kind, total, target, used) VALUES ('host-1', 'cpu', 8, 8, 1)"
CLAIM = "INSERT INTO claim (resource_uuid, job_uuid, fence) VALUES ('vm-1', 'job-1', 1)"
HOST = (
    "INSERT INTO host (uuid, cluster_uuid, zone_uuid, management_ip, hypervisor, parameters, state, status, cpu,"
    " memory, version, identity) VALUES ('host-1', 'c', 'z', '192.0.2.1', 's', '{}', 'x', 'x', 1, 1, '', '')"
)
DEBT = (
    "INSERT INTO cleanup_debt (uuid, host_uuid, resource_uuid, job_uuid, reason, created_at)"
    f" VALUES ('d', 'host-1', 'vm-2', 'j', 'r', '{NOW}')"
)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("schema") / "mgmtnode.db"
    db = open_database(f"sqlite:///{file}", SystemClock())
    upgrade(db, discover())
    asyncio.run(db.close())
    return file


@pytest.fixture
def book(schema: Path, tmp_path: Path) -> Callable[..., Records]:
    """The database with these statements run, and hosts on which these VMs are."""

    def made(*statements: str, there: set[tuple[str, str]] = frozenset()) -> Records:  # type: ignore[assignment]
        file = tmp_path / "mgmtnode.db"
        with closing(sqlite3.connect(schema)) as source, closing(sqlite3.connect(file)) as copy:
            source.backup(copy)
            for statement in statements:
                copy.execute(statement)
            copy.commit()
        return Records(f"sqlite:///{file}", lambda addresses: there)

    return made


def test_nothing_is_wrong_with_an_empty_database(book: Callable[..., Records]) -> None:
    assert books.findings(book()) == []


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ([job("job-1", "Running")], "I5: the job job-1 (vm.create) is still Running"),
        ([POOL], "I8: the pool cpu of host-1 says (1, 0) (used, allocations), and it is (0, 0)"),
        ([POOL, allocation("cpu", 1)], "I8: cpu is LIVE for vm-1, which does not exist"),
        ([resource("vm-1"), POOL, allocation("cpu", 1, state="HELD")], "I8: cpu is still HELD for vm-1"),
        ([POOL, allocation("cpu", 1, state="QUARANTINED")], "without a cleanup debt"),
        ([resource("vm-1"), allocation("memory", 5)], "I8: the VMs of host host-1 have 0 bytes"),
        (
            [resource("vm-1"), allocation("ip", 1, unit="'10.0.0.1'")],
            "I9: the address 10.0.0.1 is LIVE and no",
        ),
        ([job("job-1", "Failed"), resource("vm-1")], "I11: the job job-1 is Failed, and left vm-1"),
        ([event(1), event(3)], "I12: the events of vm-1 are 2 with the revisions 1 to 3"),
        ([event(2)], "I12: the events of vm-1 are 1 with the revisions 2 to 2"),
        ([CLAIM], "I15: vm-1 is claimed by the job job-1, which is not there"),
        ([CLAIM, job("job-1", "Succeeded")], "I15: vm-1 is claimed by the job job-1, which is Succeeded"),
    ],
)
def test_what_is_wrong_in_the_database_is_found(
    statements: list[str], said: str, book: Callable[..., Records]
) -> None:
    found = books.findings(book(*statements))
    assert [finding for finding in found if said in finding], found


def test_what_is_promised_and_not_there_is_found(book: Callable[..., Records]) -> None:
    records = book(job("job-1", "Succeeded"), job("job-2", "Running"))
    assert list(books.acknowledged(records, {"key job-1": "job-1"})) == []
    promised = {"a": "job-9", "key job-2": "job-2", "other": "job-1"}
    found = list(books.acknowledged(records, promised))
    assert [finding.partition(":")[0] for finding in found] == ["I5", "I5", "I6"]


def test_a_vm_that_nobody_knows_is_found_and_one_that_is_owed_is_not(book: Callable[..., Records]) -> None:
    found = books.findings(book(HOST, DEBT, there={("192.0.2.1", "vm-1"), ("192.0.2.1", "vm-2")}))
    assert found == ["I10: the VM vm-1 is on 192.0.2.1, and the database knows nothing of it"]


# what happened

Change = tuple[str, str | None, str, int, int]


def changes(*made: tuple[str, str | None, str], fence: int = 1, epoch: int = 1) -> list[JobChange]:
    """(job, state before, state), all on one resource; the number in the job's name is its sequence."""
    return [
        JobChange(at(second), uuid, int(uuid[1:]), "vm-1", "vm.x", before, state, "a", fence, epoch)
        for second, (uuid, before, state) in enumerate(made)
    ]


LIFE = [("j1", None, "Pending"), ("j1", "Pending", "Running"), ("j1", "Running", "Succeeded")]
NEXT = [("j2", None, "Pending"), ("j2", "Pending", "Running"), ("j2", "Running", "Failed")]


def test_jobs_one_after_the_other_are_as_they_should_be() -> None:
    history = changes(*LIFE, *NEXT)
    for check in (trail.fences, trail.ends, trail.intervals, trail.order):
        assert list(check(history)) == []


def test_a_write_under_an_old_fence_is_found() -> None:
    assert len(list(trail.fences(changes(*LIFE, fence=1, epoch=2)))) == 2
    assert list(trail.fences(changes(*LIFE, fence=2, epoch=2))) == []


def test_a_job_that_ends_twice_is_found() -> None:
    found = list(trail.ends(changes(*LIFE, ("j1", "Succeeded", "Failed"))))
    assert found == ["I4: the job j1 was Succeeded, and then became Failed"]


def test_two_jobs_at_once_on_a_resource_are_found() -> None:
    found = list(trail.intervals(changes(*LIFE[:2], *NEXT[:2])))
    assert found == ["I7: the job j2 began on vm-1, where j1 was running"]


def test_jobs_out_of_order_are_found() -> None:
    found = list(trail.order(changes(LIFE[0], NEXT[0], *NEXT[1:], *LIFE[1:])))
    assert found == ["I7: on vm-1 the job j2 began before j1, acknowledged earlier"]


@pytest.mark.parametrize(
    ("owners", "wrong"),
    [
        ([("a", 1), ("b", 2), ("a", 3)], 0),
        ([("a", 1), ("a", 1)], 0),
        ([("a", 1), ("b", 1)], 1),
        ([("a", 2), ("b", 1)], 1),
    ],
)
def test_two_owners_in_one_epoch_are_found(owners: list[tuple[str, int]], wrong: int) -> None:
    slots = [SlotChange(at(n), 7, owner, 1, epoch) for n, (owner, epoch) in enumerate(owners)]
    assert len(list(trail.owners(slots))) == wrong


def line(outcome: str, order: int = 0, fence: int = 1) -> history.Line:
    return history.Line(outcome, host="h", resource="vm-1", fence=fence, order=(1, order, 1), action="start")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line("started", 1), line("done", 1), line("sealed", 1, 2), line("started", 2, 2)], ""),
        ([line("started", 1), history.Line("booted"), line("started", 2)], ""),
        ([line("started", 1), line("stale", 1), line("done", 1)], ""),
        ([line("started", 2), line("done", 2), line("started", 1)], "was begun after (1, 2, 1)"),
        ([line("started", 1), line("done", 1), line("started", 1)], "was begun after (1, 1, 1)"),
        ([line("started", 1), line("started", 2)], "was begun while (1, 1, 1) was not over"),
        ([line("sealed", 1, 3), line("started", 2, 2)], "went on under fence 2, after 3"),
    ],
)
def test_commands_out_of_order_are_found(lines: list[history.Line], said: str) -> None:
    found = list(history.findings(lines))
    assert bool(found) == bool(said)
    assert all(said in finding and finding.startswith("I3") for finding in found)


def test_a_history_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    assert history.read(file) == []
    file.write_text('{"outcome":"started","host":"h","order":[1,0,1]}\n{"outcome":"do')
    assert [(each.outcome, each.order) for each in history.read(file)] == [("started", (1, 0, 1))]
