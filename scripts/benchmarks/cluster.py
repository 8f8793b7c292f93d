"""The suite ``cluster``: nodes on a private PostgreSQL and RabbitMQ, all on this machine, load generator included."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import make_url

from mgmtnode.testing.local_cluster import LocalCluster
from mgmtnode.testing.local_cluster.operator import ensure_token
from scripts.benchmarks import bus
from scripts.benchmarks import cloud as clouds
from scripts.benchmarks import load as loads
from scripts.benchmarks.figures import Figure, Report, median, new_report
from scripts.benchmarks.load import Load, Outcome
from scripts.benchmarks.node import Refused
from scripts.benchmarks.processes import cpu_of

HOSTS, CLIENTS, WAIT = 100, 100, 60
SIZES = (1, 2, 4)
SETTLE_SECONDS = 60.0
LOOK_SECONDS = 0.01


class Scale:
    def __init__(self, quick: bool) -> None:
        self.runs = 1 if quick else 3
        self.creates = 200 if quick else 1000
        self.kills = 3 if quick else 20
        self.seconds = 1.0 if quick else 3.0


def run(*, quick: bool, only: str = "") -> Report:
    """Measures all parts whose name has ``only`` in it."""
    scale, report = Scale(quick), new_report("cluster", quick=quick)
    for name, part in PARTS.items():
        if only in name:
            print(f"… {name}", file=sys.stderr, flush=True)
            report.figures += part(scale)
    return report


def calls(scale: Scale) -> Iterator[Figure]:
    for outstanding, found in bus.over_rabbitmq(scale.seconds).items():
        name = f"calls between two nodes, {outstanding} outstanding"
        yield Figure(name, found["calls_per_second"], "/s")
        yield Figure("  CPU of the caller, of the other node", found["cpu_us"], "µs")
        yield Figure("  CPU of both", found["both_cpu_us"], "µs")


def creates(scale: Scale) -> Iterator[Figure]:
    nodes_cpu: dict[int, float] = {}
    for size in SIZES:
        with _cluster(size) as cluster:
            cloud = clouds.make(cluster, HOSTS)
            cluster.create(cloud.vm, scale.creates // 5)
            walls, used, names = [], list[dict[str, float]](), list[str]()
            for _ in range(scale.runs):
                before = cluster.cpu()
                walls.append(cluster.create(cloud.vm, scale.creates).seconds)
                after = cluster.cpu()
                used.append({who: (after[who] - before[who]) / scale.creates * 1000 for who in after})
                names = list(after)
            single = cluster.create(cloud.vm, 50, clients=1)
        yield median(f"{scale.creates:,} VMs, {CLIENTS} clients, {size} nodes", "s", walls)
        yield Figure("  VMs", round(scale.creates / statistics.median(walls)), "/s")
        for who in names:
            value = statistics.median(run[who] for run in used)
            yield Figure(f"  CPU for each VM: {who}", round(value, 2), "ms")
            if who == "nodes":
                nodes_cpu[size] = value
        yield Figure("  one VM at a time, median", round(single.quantile(0.5) * 1000, 1), "ms")
    ratio = nodes_cpu[SIZES[-1]] / nodes_cpu[SIZES[0]]
    yield Figure(f"CPU of the nodes for each VM, {SIZES[-1]} nodes to one", round(ratio, 2), "", 1.25)


def failover(scale: Scale) -> Iterator[Figure]:
    taken, back = [], []
    with _cluster(3) as cluster:
        names = sorted(cluster.local.nodes)
        for number in range(scale.kills):
            name = names[number % len(names)]
            node = cluster.local.nodes[name]
            cluster.settled()
            began = time.monotonic()
            node.kill()
            taken.append(cluster.until_owns_nothing(name) - began)
            node.start()
            node.wait_ready()
            began = time.monotonic()
            cluster.settled()
            back.append(time.monotonic() - began)
    yield Figure(f"takeover after kill -9, median of {scale.kills}", _quantile(taken, 0.5), "s", 3.0)
    yield Figure(
        f"takeover after kill -9, 99th percentile of {scale.kills}", _quantile(taken, 0.99), "s", 4.0
    )
    yield Figure("until the restarted node has its share again, median", _quantile(back, 0.5), "s")


class Cluster:
    """A local cluster as the benchmarks use it. ``port`` is the balancer's."""

    def __init__(self, local: LocalCluster) -> None:
        self.local, self.token = local, ensure_token(local)
        self.port = int(local.url.rpartition(":")[2])
        url = make_url(local.database_url).set(drivername="postgresql")
        self._database = psycopg2.connect(url.render_as_string(hide_password=False))
        self._database.autocommit = True

    def close(self) -> None:
        self._database.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        with self.local.http() as http:
            answer = http.request(method, path, json=body, headers={"prefer": f"wait={WAIT}"})
        if answer.status_code not in (200, 201, 204):
            raise Refused(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def create(self, body: str, count: int, clients: int = CLIENTS) -> Outcome:
        outcome = loads.run(Load(self.port, self.token, count, clients, "POST", "/v1/vms", body, WAIT))
        if outcome.succeeded != count:
            raise Refused(f"{outcome.statuses}: {outcome.failure}")
        return outcome

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU so far, by who used them."""
        local = self.local
        assert local.agents is not None and local.balancer is not None
        return {
            "nodes": sum(cpu_of(node.pid) for node in local.nodes.values()),
            "PostgreSQL": cpu_of(local.postgres.pid),
            "RabbitMQ": cpu_of(local.rabbit.pid),
            "simulated hosts": cpu_of(local.agents.pid),
            "balancer": cpu_of(local.balancer.pid),
        }

    def settled(self) -> None:
        """Returns once every node has its share of the slots."""
        wanted, until = len(self.local.nodes), time.monotonic() + SETTLE_SECONDS
        while self._owners() != wanted or self._moving():
            if time.monotonic() > until:
                raise Refused("the slots did not settle")
            time.sleep(LOOK_SECONDS * 10)

    def until_owns_nothing(self, name: str) -> float:
        """When (monotonic) the last slot of a node had gone."""
        until = time.monotonic() + SETTLE_SECONDS
        while self._count("SELECT count(*) FROM ring_slot WHERE owner = %s", name):
            if time.monotonic() > until:
                raise Refused(f"nobody took over from {name}")
            time.sleep(LOOK_SECONDS)
        return time.monotonic()

    def _owners(self) -> int:
        return self._count("SELECT count(DISTINCT owner) FROM ring_slot")

    def _moving(self) -> int:
        return self._count("SELECT count(*) FROM ring_slot WHERE target IS NOT NULL")

    def _count(self, query: str, *values: object) -> int:
        with self._database.cursor() as cursor:
            cursor.execute(query, values)
            return int(cursor.fetchone()[0])


@contextmanager
def _cluster(size: int) -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="bench-cluster-"))
    try:
        with LocalCluster(directory, size) as local:
            cluster = Cluster(local)
            try:
                cluster.settled()
                yield cluster
            finally:
                cluster.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _quantile(values: Sequence[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 2)


PARTS = {"calls": calls, "creates": creates, "failover": failover}
