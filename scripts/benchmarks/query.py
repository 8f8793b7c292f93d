"""The scenario ``query``: lists of a large installation, as clients see them, on PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from urllib.parse import quote

from sqlalchemy import Engine, event

from mgmtnode.contracts.vm import VM as VMS
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import Tx
from mgmtnode.loader import discover
from mgmtnode.parts import declared_resources, query_over
from mgmtnode.ports import SystemClock
from scripts.benchmarks import cloud as clouds
from scripts.benchmarks import cluster as clusters
from scripts.benchmarks import load as loads
from scripts.benchmarks.cluster import Cluster
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.fill import VM, Filling, uuid_of
from scripts.benchmarks.load import Load
from scripts.benchmarks.node import Refused
from scripts.benchmarks.rounds import Run, Sample

TITLE = "Lists"
ABOUT = """
`GET /v1/vms` of one node on PostgreSQL with 25,000 hosts in 10 clusters and 50,000 addresses, pages of 100, by one
client and by 50. The rows were put into the database directly. There is no counterpart in the same run; CloudStack 4.20
says of itself that lists of 25,000 take 2.4 to 49 s.
"""
HOSTS, ADDRESSES = 25_000, 50_000
SIZES = (25_000, 1_000_000)
CLIENTS = (1, 50)
FILTERS = {
    "two joins: host.cluster.name=x": "host.cluster.name=cluster-7",
    "two joins: nics.ip=x": "nics.ip=10.0.42.7",
    "tag: user_tag=x": "user_tag=team-100",
    "name=x": "name=vm-12345",
    "name~=prefix%": "name~=vm-1234%",
}
WHOLE = re.compile(r"Seq Scan on (vm|nic|host|resource|tag)\b")


def measure(run: Run) -> None:
    hosts, addresses = (1_000, 2_000) if run.quick else (HOSTS, ADDRESSES)
    sizes = (5_000,) if run.quick else SIZES
    with clusters.started(1) as cluster:
        clouds.settle(cluster, "host.ping_interval", 3600)
        cloud = clouds.make(cluster, 0)
        filling = Filling(cluster.local.database_url, cloud)
        filling.hosts(hosts, state="Maintenance")  # nobody tries to connect them
        there = 0
        for size in sizes:
            filling.vms(size - there, hosts, first=there)
            if not there:
                filling.nics(addresses, size)
            there = size
            filling.analyze()
            _lists(run, cluster, size)
            _memory(run, cluster, size)
            _plans(run, cluster, size)


def _lists(run: Run, cluster: Cluster, size: int) -> None:
    asked = {name: f"limit=100&q={quote(condition)}" for name, condition in FILTERS.items()}
    asked |= {"first page": "limit=100", "newest first": "limit=100&sort=-created_at"}
    asked |= {"with count": "limit=100&count=true", "deep page": f"limit=100&cursor={_deep(cluster, size)}"}
    paths = {name: f"/v1/vms?{query}" for name, query in asked.items()}
    paths["one by uuid"] = f"/v1/vms/{uuid_of(VM, size // 2)}"
    for name, path in paths.items():
        for clients in CLIENTS:
            count = (40 if run.quick else 200) * (1 if clients == 1 else 4)
            case = f"{size:,} VMs: {name}, {clients} client{'s' if clients > 1 else ''}"
            run.compare(case, {OURS: partial(_ask, cluster, path, count, clients)})
            if clients == 1:
                run.at_most(case, case, "p95", 50 if size <= 25_000 else 100)


def _ask(cluster: Cluster, path: str, count: int, clients: int) -> Sample:
    port = cluster.local.nodes["node-1"].port
    with cluster.meter.measure() as used:
        outcome = loads.run(Load(port, cluster.token, count, clients, "GET", path))
    if outcome.statuses != {200: count}:
        raise Refused(f"{path}: {outcome.statuses} {outcome.failure}")
    return {
        "p50, ms": outcome.quantile(0.5) * 1000,
        "p95, ms": outcome.quantile(0.95) * 1000,
        "requests, /s": count / outcome.seconds,
        "CPU node, ms": used.cpu["nodes"] / count * 1000,
        "CPU PostgreSQL, ms": used.cpu["PostgreSQL"] / count * 1000,
    }


def _memory(run: Run, cluster: Cluster, size: int) -> None:
    """Of the node while one client reads all pages; not in rounds."""
    case = f"{size:,} VMs: all pages of 1,000, one after the other"
    if not run.wanted(case):
        return
    with cluster.meter.measure() as used:
        pages = sum(1 for _ in _pages(cluster, 1000))
    found = {"pages, ": pages, "all done, s": used.wall, "CPU node, s": used.cpu["nodes"]}
    run.record(case, OURS, [found | {"peak memory, MiB": used.peak["nodes"]}])


def _deep(cluster: Cluster, size: int) -> str:
    """The cursor after nine tenths of all."""
    wanted = size * 9 // 10 // 1000
    return quote(next(cursor for number, cursor in enumerate(_pages(cluster, 1000)) if number >= wanted - 1))


def _pages(cluster: Cluster, limit: int) -> Iterator[str]:
    """Reads page after page; yields the cursor behind each."""
    cursor = ""
    with cluster.local.http("node-1") as http:
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = http.get("/vms", params={"limit": limit, "fields": "uuid", **more}).json()
            cursor = page["next_cursor"] or ""
            if not cursor:
                return
            yield cursor


def _plans(run: Run, cluster: Cluster, size: int) -> None:
    """EXPLAIN of the filtered lists, as the query engine writes them: none may read a whole table."""
    if run.quick or not run.wanted("plans"):
        return  # of a table with a few rows PostgreSQL rightly reads all
    db = open_database(cluster.local.database_url, SystemClock())
    try:
        plans = {name: _plan(db.engine, condition) for name, condition in FILTERS.items()}
    finally:
        db.engine.dispose()
    whole = {name: WHOLE.findall(plan) for name, plan in plans.items()}
    for name, tables in whole.items():
        if tables:
            run.note(f"{size:,} VMs, {name}: PostgreSQL reads {', '.join(tables)} from end to end")
    found = {"filters that read a whole table, ": sum(map(bool, whole.values()))}
    case = f"{size:,} VMs: plans of {len(FILTERS)} filters"
    run.record(case, OURS, [found], counted=True)
    run.at_most(case, case, "filters that read a whole table", 0)


def _plan(engine: Engine, condition: str) -> str:
    seen: list[tuple[str, Mapping[str, object]]] = []

    def spy(
        connection: object, cursor: object, statement: str, parameters: Mapping[str, object], *_: object
    ) -> None:
        seen.append((statement, parameters))

    manifests = discover()
    query = query_over(manifests, declared_resources(manifests))
    with engine.connect() as connection, connection.begin():
        event.listen(engine, "before_cursor_execute", spy)
        try:
            query.page(Tx(connection, SystemClock().now(), None), VMS, [condition])
        finally:
            event.remove(engine, "before_cursor_execute", spy)
        statement, parameters = next(each for each in seen if each[0].startswith("SELECT"))
        rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).fetchall()
    return "\n".join(str(row[0]) for row in rows)
