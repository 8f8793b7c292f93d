"""Measures the query engine on 100,000 VMs: pages, deep pages, joins, patterns, single reads.

scripts/bench query [--url postgresql+psycopg2://…] [--vms 100000] [--plans] [--only WORDS]

Without a URL: a SQLite file in a temporary directory. With one, the database should be empty. ``--plans``
prints each statement with the database's plan for it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from time import perf_counter, process_time
from typing import Any

from sqlalchemy import insert, text

from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import resource, share, tag
from mgmtnode.jobs.job import Caller
from mgmtnode.ports import SystemClock
from mgmtnode.query.engine import Query
from tests.query import schema as s

START = datetime(2026, 1, 1, tzinfo=UTC)
OPERATOR = "00000000-0000-7000-8000-000000000001"
TENANTS = 20
ROUNDS = 40
BATCH = 5_000


class Filling:
    """Rows of one installation, the same on every run."""

    def __init__(self, tx: Tx, vms: int) -> None:
        self.tx, self.vms = tx, vms
        self.rng = random.Random(7)
        self.number = 0
        self.pending: dict[Any, list[dict[str, Any]]] = {}

    def uuid(self) -> str:
        self.number += 1
        value = f"{0x019B76DA0000 + self.number:012x}7000800000000000{self.number:08x}"[:32]
        return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:32]}"

    def put(self, table: Any, **row: Any) -> None:
        rows = self.pending.setdefault(table, [])
        rows.append(row)

    def make(self, table: Any, name: str, account: str = OPERATOR, **row: Any) -> str:
        uuid = self.uuid()
        at = START + timedelta(seconds=self.number)
        core = {"uuid": uuid, "type": table.name, "name": name, "description": "", "account_uuid": account}
        self.put(resource, **core, created_at=at, updated_at=at, unique_name=None)
        self.put(table, uuid=uuid, **row)
        if len(self.pending[resource]) >= BATCH:
            self.flush()
        return uuid

    def flush(self) -> None:
        for table in sorted(self.pending, key=lambda table: table is not resource):
            self.tx.execute(insert(table), self.pending[table])
        self.pending.clear()

    def run(self) -> None:
        zones = [self.make(s.zone, f"zone-{i}", enabled=True) for i in range(5)]
        clusters = [self.make(s.cluster, f"cluster-{i}", zone_uuid=zones[i % 5]) for i in range(50)]
        hosts = [self._host(i, clusters[i % 50]) for i in range(1000)]
        networks = [self.make(s.network, f"net-{i}") for i in range(10)]
        for i in range(self.vms):
            self._vm(i, hosts[self.rng.randrange(1000)], networks[i % 10])
        for network in networks[:2]:
            self.put(share, resource_uuid=network, account_uuid="*")
        self.flush()

    def _host(self, i: int, cluster: str) -> str:
        return self.make(s.host, f"host-{i}", cluster_uuid=cluster, cpus=64, load=i / 100, seen_at=START)

    def _vm(self, i: int, host: str, network: str) -> None:
        account = tenant(i % TENANTS) if i % 2 else OPERATOR
        state = self.rng.choices(("Running", "Stopped", "Unknown"), (80, 19.9, 0.1))[0]
        memory = self.rng.choice((1, 2, 4, 8)) << 30 if i % 10 else None
        row = {"host_uuid": host, "state": state, "cpus": 1 + i % 8, "memory": memory, "ha": i % 3 == 0}
        vm = self.make(s.vm, f"vm-{i}", account, **row, labels=["a", "b"])
        nic = {"vm_uuid": vm, "network_uuid": network, "ip": f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"}
        self.make(s.nic, f"nic-{i}", account, **nic, primary=True, options={})
        if i % 50 == 0:
            core = {"uuid": self.uuid(), "resource_uuid": vm, "resource_type": "vm", "kind": "user"}
            self.put(tag, **core, text=f"team-{i % 1000}", inherent=False, created_at=START)


def tenant(number: int) -> str:
    return f"00000000-0000-7000-8000-{number + 100:012d}"


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
