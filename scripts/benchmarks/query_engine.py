"""Measures the query engine alone on 100,000 VMs: pages, deep pages, joins, patterns, single reads. For who works on
it; the scenario ``query`` measures lists as clients see them.

python -m scripts.benchmarks.query_engine [--url postgresql+psycopg2://…] [--vms 100000] [--plans] [--only WORDS]

Without a URL: a SQLite file in a temporary directory. With one, the database should be empty. ``--plans``
prints each statement with the database's plan for it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from time import perf_counter, process_time
from typing import Any

from sqlalchemy import text

from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.jobs.job import Caller
from mgmtnode.ports import SystemClock
from mgmtnode.query.engine import Query
from tests.query import schema as s
from tests.query.filling import START, Filling, tenant

ROUNDS = 40

Call = Callable[[Tx], Any]


def cases(query: Query, tx: Tx, vms: int) -> Iterator[tuple[str, Call]]:
    """What is measured, by name."""

    def page(*conditions: str, **options: Any) -> Call:
        return lambda tx: query.page(tx, s.VM, conditions, **options)

    def deep(at: float, *conditions: str, **options: Any) -> Call:
        """The page after ``at`` of all, found by a page of one just there."""
        cursor = cursor_at(query, tx, conditions, int(vms * at), options)
        return lambda tx: query.page(tx, s.VM, conditions, cursor=cursor, **options)

    some = query.page(tx, s.VM, limit=1000).items
    uuids = [vm.uuid for vm in some]
    me = Caller(account_uuid=tenant(1))
    yield "get", lambda tx: query.get(tx, s.VM, uuids[len(uuids) // 2])
    yield "get, tenant, not visible", lambda tx: refused(query, tx, uuids[0], me)
    yield "first page", page()
    yield "first page of 1000", page(limit=1000)
    yield "first page, two fields", page(fields=("uuid", "name"))
    yield "deep page", deep(0.9)
    yield "host.cluster.name=x", page("host.cluster.name=cluster-7")
    yield "host.cluster.name=x, deep", deep(0.018, "host.cluster.name=cluster-7")
    yield "host.cluster.name=x sort=-created_at", page("host.cluster.name=cluster-7", sort="-created_at")
    yield "host.cluster.name=none", page("host.cluster.name=absent")
    yield "host.cluster.zone.name=x state=Stopped", page("host.cluster.zone.name=zone-3", "state=Stopped")
    yield "host.name=x", page("host.name=host-500")
    yield "host.uuid=x", page(f"host.uuid={some[0].host_uuid}")
    yield "host_uuid=x", page(f"host_uuid={some[0].host_uuid}")
    yield "state=Unknown (1 in 1000)", page("state=Unknown")
    yield "sort=-created_at", page(sort="-created_at")
    yield "sort=-created_at, deep", deep(0.5, sort="-created_at")
    yield "sort=name", page(sort="name")
    yield "sort=-memory (no index, null)", page(sort="-memory")
    yield "sort=-memory,name (no index), deep", deep(0.5, sort="-memory,name")
    yield "name=x", page("name=vm-54321")
    yield "name?=x,y,z", page("name?=vm-54321,vm-12345,vm-99")
    yield "name~=prefix%", page("name~=VM-1234%")
    yield "name~=prefix% (all)", page("name~=vm%")
    yield "name~=%infix%", page("name~=%4321%")
    yield "name~=%infix%, nothing", page("name~=%absent%")
    yield "created_at>x", page(f"created_at>{(START + timedelta(seconds=150_000)).isoformat()}")
    yield "nics.ip=x", page("nics.ip=10.0.42.7")
    yield "nics.network.name=x", page("nics.network.name=net-3")
    yield "nics.primary=false (none)", page("nics.primary=false")
    yield "user_tag=x", page("user_tag=team-100")
    yield "user_tag~=x%", page("user_tag~=team-1%")
    yield "user_tag!=x", page("user_tag!=team-100")
    yield "count, all", page(count=True)
    yield "count, host.cluster.name=x", page("host.cluster.name=cluster-7", count=True)
    yield "tenant, first page", page(caller=me)
    yield "tenant, deep page", deep(0.04, caller=me)
    yield "tenant, sort=-created_at", page(caller=me, sort="-created_at")
    yield "tenant, name~=prefix%", page("name~=vm-1234%", caller=me)
    yield "tenant, nics.ip=x", page("nics.ip=10.0.42.7", caller=me)
    yield "tenant, no resources", page(caller=Caller(account_uuid=tenant(999)))
    yield "hosts by vms.name=x", lambda tx: query.page(tx, s.HOST, ["vms.name=vm-54321"])
    yield "hosts by vms.state=Stopped", lambda tx: query.page(tx, s.HOST, ["vms.state=Stopped"])
    yield (
        "clusters by hosts.vms.nics.ip=x",
        lambda tx: query.page(tx, s.CLUSTER, ["hosts.vms.nics.ip=10.0.42.7"]),
    )


def cursor_at(query: Query, tx: Tx, conditions: tuple[str, ...], skip: int, options: dict[str, Any]) -> str:
    cursor = ""
    while skip > 0:
        options = {**options, "fields": ("uuid",)}
        step = query.page(tx, s.VM, conditions, limit=min(skip, 1000), cursor=cursor, **options)
        cursor, skip = step.next_cursor or cursor, skip - 1000
        if not step.next_cursor:
            break
    return cursor


def refused(query: Query, tx: Tx, uuid: str, caller: Caller) -> None:
    try:
        query.get(tx, s.VM, uuid, caller)
    except Exception:  # what a stranger is told; its cost is the point
        return


def measure(tx: Tx, call: Call, rounds: int) -> str:
    """Median and 95th percentile in milliseconds; of this process's CPU, which with SQLite is all there
    is."""
    taken, busy = [], []
    for _ in range(rounds):
        begin, cpu = perf_counter(), process_time()
        call(tx)
        taken.append((perf_counter() - begin) * 1000)
        busy.append((process_time() - cpu) * 1000)
    return "   ".join(
        f"{what} {statistics.median(values):8.2f} p95 {statistics.quantiles(values, n=20)[-1]:8.2f}"
        for what, values in (("wall", taken), ("cpu", busy))
    )


def explain(tx: Tx, call: Call) -> None:
    """Prints the plan of the statement that ``call`` runs."""
    seen: list[tuple[str, Any]] = []
    execute = tx.connection.exec_driver_sql

    def spy(sql: str, params: Any = None) -> Any:
        seen.append((sql, params))
        return execute(sql, params)

    tx.connection.exec_driver_sql = spy  # type: ignore[method-assign,assignment]  # a spy in its place
    try:
        call(tx)
    finally:
        tx.connection.exec_driver_sql = execute  # type: ignore[method-assign]
    sql, params = seen[-1]
    word = "EXPLAIN QUERY PLAN " if tx.dialect == "sqlite" else "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "
    print(f"    {sql}")
    for row in execute(word + sql, params).fetchall():
        print("    |", row[-1])


def fill(db: SqlDatabase, vms: int, *, analyze: bool) -> None:
    s.metadata.create_all(db.engine)
    db.run(lambda tx: Filling(tx, vms).run())
    if analyze:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--vms", type=int, default=100_000)
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--only", default="", help="measure the cases whose name has this in it")
    parser.add_argument("--filled", action="store_true", help="the database was filled by an earlier run")
    parser.add_argument("--no-statistics", action="store_true", help="do not ANALYZE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        db = open_database(options.url or f"sqlite:///{directory}/bench.db", SystemClock())
        if not options.filled:
            begin = perf_counter()
            fill(db, options.vms, analyze=not options.no_statistics)
            print(f"filled in {perf_counter() - begin:.1f} s")
        query = Query(s.RESOURCES, s.TABLES)
        with db.engine.connect() as connection, connection.begin():
            tx = Tx(connection, START, None)
            for name, call in cases(query, tx, options.vms):
                if options.only not in name:
                    continue
                print(f"{name:42} {measure(tx, call, ROUNDS)}")
                if options.plans:
                    explain(tx, call)
        db.engine.dispose()


if __name__ == "__main__":
    main()
