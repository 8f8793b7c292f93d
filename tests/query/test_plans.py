"""Selective filters are answered from indexes: no plan reads a whole table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, text

from mgmtnode.db.engine import open_database
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller
from mgmtnode.ports import SystemClock
from mgmtnode.query.engine import Query
from tests.query import schema as s
from tests.query.conftest import POSTGRES, patient
from tests.query.filling import START, Filling, tenant

VMS = 6_000
ORDERED = "sqlite_autoindex_vm_1"  # the order of the page itself, left after its last row
WHOLE = {
    "sqlite": rf"SCAN [tr]\d+(?! USING COVERING INDEX {ORDERED})",
    "postgresql": r"Seq Scan on (vm|nic|host|resource)\b",
}
SELECTIVE: list[dict[str, Any]] = [
    {},
    {"sort": "-created_at"},
    {"sort": "name"},
    {"conditions": ["name=vm-123"]},
    {"conditions": ["name~=VM-12%"]},
    {"conditions": ["host.cluster.name=cluster-7"]},
    {"conditions": ["host.name=host-7", "state=Running"]},
    {"conditions": ["nics.ip=10.0.0.7"]},
    {"conditions": ["user_tag=team-100"]},
    {"caller": Caller(account_uuid=tenant(1))},
    {"caller": Caller(account_uuid=tenant(99)), "count": True},
    {"caller": Caller(account_uuid=tenant(1)), "conditions": ["nics.ip=10.0.0.7"], "sort": "-created_at"},
]


@pytest.fixture(scope="module", params=["sqlite", POSTGRES])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tx]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('plans')}/test.db"
    else:
        url = request.getfixturevalue("postgres_server").create_database("query_plans")
    database = open_database(url, SystemClock())
    s.metadata.create_all(database.engine)
    database.run(lambda tx: Filling(tx, VMS).run())
    with database.engine.connect() as connection, connection.begin():
        patient(connection)
        if request.param == "postgresql":
            connection.execute(text("ANALYZE"))  # SQLite plans well without, as it will have to
        yield Tx(connection, START, None)
    database.engine.dispose()


@pytest.mark.parametrize("options", SELECTIVE, ids=str)
def test_a_selective_page_reads_no_whole_table(query: Query, filled: Tx, options: dict[str, Any]) -> None:
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(filled.connection, "before_cursor_execute", note)
    query.page(filled, s.VM, limit=10, **options)
    event.remove(filled.connection, "before_cursor_execute", note)
    word = "EXPLAIN QUERY PLAN" if filled.dialect == "sqlite" else "EXPLAIN"
    statement, parameters = seen[0]
    plan = filled.connection.exec_driver_sql(f"{word} {statement}", parameters).fetchall()
    steps = [str(row[-1]) for row in plan]
    assert not [step for step in steps if re.search(WHOLE[filled.dialect], step)], "\n".join(steps)
