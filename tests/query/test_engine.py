"""Reads: one statement each, what callers see, and what can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, insert

from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import Caller, JobState
from mgmtnode.query.engine import Query
from tests.query import schema as s
from tests.query.world import ALICE, BOB, OPERATOR, World


@pytest.fixture
def statements(database: SqlDatabase) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def test_every_read_is_one_statement(query: Query, tx: Tx, statements: list[str], world: World) -> None:
    vm = world.rows["vm"][0]["uuid"]
    alice = Caller(account_uuid=ALICE)
    reads = [
        lambda: query.get(tx, s.VM, vm),
        lambda: query.find(tx, s.VM, "host.cluster.name~=v%", sort="-name", limit=3),
        lambda: query.page(tx, s.VM, ["nics.network.name!=x", "user_tag=team-a"], count=True, limit=2),
        lambda: query.page(tx, s.VM, ["host.name!=x"], count=True, caller=alice, sort="-memory,name"),
        lambda: query.page(tx, s.ZONE, ["name=absent"], count=True),
    ]
    for read in reads:
        before = len(statements)
        read()
        assert len(statements) == before + 1


def test_a_missing_resource_is_refused_with_its_type_and_uuid(query: Query, tx: Tx, world: World) -> None:
    other = world.rows["host"][0]["uuid"]
    with pytest.raises(ApiError, match=f"core.not-found: there is no vm '{other}'"):
        query.get(tx, s.VM, other)


def test_a_unique_name_serves_as_a_uuid(query: Query, tx: Tx, world: World) -> None:
    assert query.get(tx, s.ZONE, "zone-1").uuid == world.rows["zone"][1]["uuid"]
    with pytest.raises(ApiError, match="there is no zone 'zone-9'"):
        query.get(tx, s.ZONE, "zone-9")


def test_tenants_get_what_they_own_or_what_is_shared_with_them(query: Query, tx: Tx, world: World) -> None:
    for row in world.rows["vm"]:
        for account in (ALICE, BOB):
            try:
                seen = bool(query.get(tx, s.VM, row["uuid"], Caller(account_uuid=account)))
            except ApiError:
                seen = False
            assert seen is world.sees(account, row["uuid"])
        assert query.get(tx, s.VM, row["uuid"], Caller(account_uuid=OPERATOR, admin=True))


def test_tenants_learn_nothing_of_foreign_resources_through_joins(query: Query, tx: Tx, world: World) -> None:
    alice = Caller(account_uuid=ALICE)
    hidden = [
        vm
        for vm in world.rows["vm"]
        if vm["host_uuid"] and world.sees(ALICE, vm["uuid"]) and not world.sees(ALICE, vm["host_uuid"])
    ]
    assert hidden
    for vm in hidden:
        conditions = (f"uuid={vm['uuid']}", "host.cpus>0", f"host.uuid={vm['host_uuid']}", "host.user_tag!=x")
        for condition in conditions[1:]:
            assert query.page(tx, s.VM, [conditions[0], condition], caller=alice).items == []


def test_embedded_lists_have_only_what_the_caller_sees(query: Query, tx: Tx, world: World) -> None:
    for vm in query.find(tx, s.VM, caller=Caller(account_uuid=ALICE)):
        nics = [nic["uuid"] for nic in world.rows["nic"] if nic["vm_uuid"] == vm.uuid]
        assert [nic.uuid for nic in vm.nics] == sorted(uuid for uuid in nics if world.sees(ALICE, uuid))


def test_chosen_fields_come_as_dicts_of_just_them(query: Query, tx: Tx) -> None:
    items = query.page(tx, s.VM, [], fields=("name", "ha", "nics", "name"), sort="-created_at").items
    assert {tuple(item) for item in items} == {("name", "ha", "nics")}
    assert {type(item["ha"]) for item in items} == {bool}


def test_chosen_fields_are_all_the_columns_a_statement_reads(
    query: Query, tx: Tx, statements: list[str]
) -> None:
    query.page(tx, s.VM, [], fields=("uuid", "cpus"))
    assert "labels" not in statements[-1] and "resource" not in statements[-1]


def test_conditions_on_one_path_share_its_joins(query: Query, tx: Tx, statements: list[str]) -> None:
    query.page(
        tx,
        s.VM,
        ["host.cpus>1", "host.load!=null", "host.cluster.name!=x", "host.cluster.name!=y"],
        fields=["uuid"],
    )
    assert statements[-1].count("JOIN host") == 1
    assert statements[-1].count("JOIN resource") == 1


def test_rows_that_are_no_resources_are_seen_by_their_account(query: Query, database: SqlDatabase) -> None:
    rows = [(ALICE, "Running"), (BOB, "Failed")]
    with database.engine.connect() as connection:
        tx = Tx(connection, None, None)  # type: ignore[arg-type]  # nothing here needs the time
        for number, (account, state) in enumerate(rows):
            values = {
                "uuid": f"00000000-0000-7000-a000-{number:012d}",
                "account_uuid": account,
                "state": state,
            }
            tx.execute(insert(s.task).values(**values, journal={"n": number}))
        assert [t.journal for t in query.find(tx, s.TASK, "state?=Running,Failed")] == [{"n": 0}, {"n": 1}]
        mine = query.page(tx, s.TASK, caller=Caller(account_uuid=BOB), count=True)
        assert [t.state for t in mine.items] == [JobState.FAILED] and mine.total == 1
        with pytest.raises(ApiError, match="task has no field 'user_tag'"):
            query.find(tx, s.TASK, "user_tag=x")
        connection.rollback()


def test_a_repeated_query_reuses_its_statement(query: Query, tx: Tx) -> None:
    query.page(tx, s.VM, ["cpus=1"])
    before = query._statement.cache_info()
    query.page(tx, s.VM, ["cpus=2"])
    after = query._statement.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


def test_what_can_be_asked_is_described(query: Query) -> None:
    vm = query.describe()["vm"]
    fields = {field.name: field for field in vm.fields}
    assert fields["state"].members == ["Running", "Stopped", "Unknown"]
    assert fields["memory"].nullable and fields["memory"].sortable
    assert not fields["nics"].operators and not fields["labels"].sortable
    assert not fields["user_tag"].shown
    assert [(j.name, j.target, j.many) for j in vm.joins] == [("host", "host", False), ("nics", "nic", True)]
