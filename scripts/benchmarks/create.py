"""The scenario ``create``: VMs made by 100 clients, the full durable flow, beside the same flow on DBOS."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mgmtnode.testing.process import free_port
from mgmtnode.testing.servers import PostgresServer
from scripts.benchmarks import cloud as clouds
from scripts.benchmarks import cluster as clusters
from scripts.benchmarks import load as loads
from scripts.benchmarks.cluster import Cluster, Statistics
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.load import Load
from scripts.benchmarks.node import Node
from scripts.benchmarks.peers.environments import NotInstalled, python_of
from scripts.benchmarks.peers.program import Program
from scripts.benchmarks.plots import Plot
from scripts.benchmarks.rounds import PeerFailed, Run, Sample
from scripts.benchmarks.usage import Meter

TITLE = "VMs created"
ABOUT = """
`POST /v1/vms` with `Prefer: wait` by 100 clients, on 100 simulated hosts: quota, host capacity, an address, a NIC and
the row in the first step, the command of the host in the second, the end in the third; each VM is answered when it
runs. All on this machine. CPU is for each VM. DBOS runs a workflow of as many steps behind a bare ASGI application, on
a PostgreSQL of its own with the same settings; its steps write nothing but DBOS's journal and ask no host, they only
wait as long. Our journal is the light one, there is no other. Statements and commits are counted by PostgreSQL itself:
a commit is a transaction that wrote.
"""
HOSTS, CLIENTS, WAIT = 100, 100, 60
IDLE_SECONDS = 5.0
EMBEDDED, DBOS = f"{OURS} embedded", "DBOS"
COUNTS = (1, 10, 100, 1000, 10_000)
CASES = {count: f"{count:,} VM{'s' if count > 1 else ''}" for count in COUNTS}
PLOTS = (
    Plot("wall", "time until all run", "all done", "VMs", {case: float(n) for n, case in CASES.items()}),
    Plot("rate", "VMs a second", "VMs", "VMs", {case: float(n) for n, case in CASES.items()}),
)


class Maker(Protocol):
    """Something that makes VMs at a port. ``settle`` sets how long its hosts take for a command."""

    port: int
    token: str
    body: str
    meter: Meter

    def settle(self, milliseconds: int) -> None: ...


class OnCluster:
    def __init__(self, cluster: Cluster) -> None:
        cloud = clouds.make(cluster, HOSTS)
        self._cluster, self.body = cluster, cloud.vm
        self.port, self.token, self.meter = cluster.port, cluster.token, cluster.meter
        self.database = cluster.database

    def settle(self, milliseconds: int) -> None:
        clouds.settle(self._cluster, "simulator.delay_ms", milliseconds)


class Embedded:
    def __init__(self, node: Node) -> None:
        cloud = clouds.make(node, HOSTS)
        self._node, self.body = node, cloud.vm
        self.port, self.token = node.port, node.token
        self.meter = Meter({"nodes": lambda: [node.pid]}, memory=("nodes",))

    def settle(self, milliseconds: int) -> None:
        clouds.settle(self._node, "simulator.delay_ms", milliseconds)


class OnDbos:
    def __init__(self, program: Program, postgres: PostgresServer, port: int) -> None:
        self.port, self.token, self.body = port, "none", ""
        self.meter = Meter(
            {"nodes": lambda: [program.pid], "PostgreSQL": lambda: [postgres.pid]}, memory=("nodes",)
        )
        self.database = Statistics(postgres.database_url("dbos"))
        self.settle(0)

    def settle(self, milliseconds: int) -> None:
        self.body = f'{{"name":"vm-{{n}}","seconds":{milliseconds / 1000}}}'


def measure(run: Run) -> None:
    counts = [count for count in COUNTS if count <= (200 if run.quick else 10_000)]
    with _makers(run) as makers:
        for count in counts:
            trials = {who: partial(create, maker, count) for who, maker in makers.items()}
            run.compare(CASES[count], trials, warm=count < 10_000)
        for maker in makers.values():
            maker.settle(2000)
        for count in counts[1:]:
            trials = {who: partial(create, maker, count) for who, maker in makers.items()}
            run.compare(f"{CASES[count]}, the host takes 2 s", trials, warm=False)
        for maker in makers.values():
            maker.settle(0)
        if run.wanted("counted"):
            _count(run, makers, 100 if run.quick else 1000)
    _claim(run)


def create(maker: Maker, count: int) -> Sample:
    clients = min(CLIENTS, count)
    load = Load(maker.port, maker.token, count, clients, "POST", "/v1/vms", maker.body, WAIT)
    with maker.meter.measure() as used:
        outcome = loads.run(load)
    if outcome.succeeded != count or outcome.statuses.keys() - {200, 201}:
        raise PeerFailed(f"{outcome.statuses}: {outcome.failure}")
    return {
        "all done, s": outcome.seconds,
        "VMs, /s": count / outcome.seconds,
        "p50, ms": outcome.quantile(0.5) * 1000,
        "p95, ms": outcome.quantile(0.95) * 1000,
        **{f"CPU {who}, ms": seconds / count * 1000 for who, seconds in used.cpu.items()},
        "peak memory, MiB": used.peak["nodes"],
    }


def _count(run: Run, makers: Mapping[str, Any], count: int) -> None:
    """Statements are counted apart from what is timed: counting costs. What goes on without any VM is taken off."""
    for who, maker in makers.items():
        if not hasattr(maker, "database"):
            continue
        with maker.database.counting() as idle:
            time.sleep(IDLE_SECONDS)
        with maker.database.counting() as counted:
            begin = time.monotonic()
            create(maker, count)
            share = (time.monotonic() - begin) / IDLE_SECONDS
        found = {what: (value - idle[what] * share) / count for what, value in counted.items()}
        sample = {
            "SQL statements for each VM, ": found["statements"],
            "commits for each VM, ": found["commits"],
            "log for each VM, KiB": found["log"] / 1024,
        }
        run.record(f"counted, {CLIENTS} clients", who, [sample], counted=True)


def _claim(run: Run) -> None:
    thousand, many = CASES[1000], CASES[10_000]
    run.at_most("1,000 VMs on PostgreSQL and RabbitMQ", thousand, "all done", 10)
    run.at_most("10,000 VMs on PostgreSQL and RabbitMQ", many, "all done", 110)
    run.at_most("1,000 VMs embedded", thousand, "all done", 8, EMBEDDED)
    run.at_most("one VM", CASES[1], "p50", 60)
    run.at_most("commits for each VM", f"counted, {CLIENTS} clients", "commits for each VM", 3.05)
    run.ratio("VMs a second, to DBOS", thousand, "VMs", DBOS, 1, at_least=True)


@contextmanager
def _makers(run: Run) -> Iterator[dict[str, Maker]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        cluster = stack.enter_context(clusters.started(1))
        makers: dict[str, Maker] = {OURS: OnCluster(cluster)}
        run.section.settings[OURS] = clusters.SETTINGS.format(nodes="one node")
        node = stack.enter_context(Node(directory / "data"))
        makers[EMBEDDED] = Embedded(node)
        run.section.settings[EMBEDDED] = "one process on SQLite with synchronous=FULL, hosts simulated in it"
        try:
            makers[DBOS] = _dbos(stack, run, directory)
        except (NotInstalled, PeerFailed) as reason:
            run.note(f"DBOS is missing: {reason}")
        yield makers


def _dbos(stack: ExitStack, run: Run, directory: Path) -> OnDbos:
    python = python_of("dbos")
    postgres = stack.enter_context(PostgresServer(durable=True, settings=Statistics.PRELOAD))
    url, port = postgres.create_database("dbos"), free_port()
    program = Program(
        python, "dbos", ["serve", url.replace("+psycopg2", ""), str(port)], directory / "dbos.log"
    )
    stack.callback(program.stop)
    program.wait_ready()
    run.section.settings[DBOS] = (
        f"{program.about}; one process, asynchronous workflow of 3 steps, uvicorn with uvloop"
    )
    return OnDbos(program, postgres, port)
