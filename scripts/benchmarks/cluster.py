"""A local cluster as the scenarios use it: calls, load, CPU by component, slots, counted SQL."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import make_url

from mgmtnode.testing.local_cluster import LocalCluster
from mgmtnode.testing.local_cluster.operator import ensure_token
from scripts.benchmarks.node import Refused
from scripts.benchmarks.usage import Meter

WAIT = 60
SETTLE_SECONDS = 60.0
LOOK_SECONDS = 0.01
SETTINGS = (
    "{nodes} on one PostgreSQL (fsync on, 128 MB of shared buffers) and one RabbitMQ, hosts simulated by one process, "
    "HAProxy in front"
)


class Cluster:
    """``port`` is the balancer's. ``meter`` tells the CPU of nodes, PostgreSQL, RabbitMQ, simulated hosts and the
    balancer apart."""

    def __init__(self, local: LocalCluster) -> None:
        self.local, self.token = local, ensure_token(local)
        self.port = int(local.url.rpartition(":")[2])
        self.database = Statistics(local.database_url)
        assert local.agents is not None and local.balancer is not None
        agents, balancer = local.agents, local.balancer
        self.meter = Meter(
            {
                "nodes": lambda: [node.pid for node in local.nodes.values()],
                "PostgreSQL": lambda: [local.postgres.pid],
                "RabbitMQ": lambda: [local.rabbit.pid],
                "hosts": lambda: [agents.pid],
                "balancer": lambda: [balancer.pid],
            },
            memory=("nodes",),
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request to ``/v1``, waited for. Raises Refused."""
        with self.local.http() as http:
            answer = http.request(method, path, json=body, headers={"prefer": f"wait={WAIT}"})
        if answer.status_code not in (200, 201, 204):
            raise Refused(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

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
        while self.database.one("SELECT count(*) FROM ring_slot WHERE owner = %s", name):
            if time.monotonic() > until:
                raise Refused(f"nobody took over from {name}")
            time.sleep(LOOK_SECONDS)
        return time.monotonic()

    def _owners(self) -> int:
        return self.database.one("SELECT count(DISTINCT owner) FROM ring_slot")

    def _moving(self) -> int:
        return self.database.one("SELECT count(*) FROM ring_slot WHERE target IS NOT NULL")


class Statistics:
    """What PostgreSQL itself counted. Commits are transactions that wrote: each took one transaction number."""

    PRELOAD: Mapping[str, str] = {
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.max": "10000",
    }
    """Settings of a server that is to count statements, when told to. What is given on its command line could not be
    switched, so ``track`` is not among them."""

    WORK = "query !~* '^(begin|commit|rollback|savepoint|release|set|show)'"

    def __init__(self, url: str) -> None:
        plain = make_url(url).set(drivername="postgresql")
        self._url = plain.render_as_string(hide_password=False)
        self._connect()
        if self._counts():
            self._track("none")

    def close(self) -> None:
        self._connection.close()

    def one(self, query: str, *values: object) -> int:
        """The number that a query answers; asked once more of a server that was started again."""
        try:
            return self._one(query, values)
        except psycopg2.OperationalError:
            self._connect()
            return self._one(query, values)

    def commits(self) -> int:
        """Transactions that wrote, so far, in the whole server; asking takes no number."""
        return self.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")

    def wal(self) -> int:
        """Bytes of write-ahead log so far."""
        return self.one("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")

    @contextmanager
    def counting(self) -> Iterator[dict[str, int]]:
        """Statements, commits and bytes of log of what is done in the block, known once it has ended."""
        found: dict[str, int] = {}
        self._run("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        self._track("top")
        try:
            self._run("SELECT pg_stat_statements_reset()")
            commits, wal = self.commits(), self.wal()
            yield found
            found["commits"], found["log"] = self.commits() - commits, self.wal() - wal
            found["statements"] = self.one(f"SELECT sum(calls) FROM pg_stat_statements WHERE {self.WORK}")
        finally:
            self._track("none")

    def most_frequent(self) -> list[tuple[int, str]]:
        """Statements by how often they ran while it was counted last, whether they were prepared or not."""
        found = Counter[str]()
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT calls, query FROM pg_stat_statements WHERE {self.WORK}")
            for calls, query in cursor.fetchall():
                found[_plain(query)] += calls
        return [(calls, text) for text, calls in found.most_common()]

    def _connect(self) -> None:
        self._connection = psycopg2.connect(self._url)
        self._connection.autocommit = True

    def _one(self, query: str, values: tuple[object, ...]) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            found = cursor.fetchone()
            return int(found[0]) if found and found[0] is not None else 0

    def _counts(self) -> int:
        return self.one("SELECT count(*) FROM pg_settings WHERE name = 'pg_stat_statements.track'")

    def _track(self, what: str) -> None:
        """Sessions take the setting up before their next statement."""
        self._run(f"ALTER SYSTEM SET pg_stat_statements.track = '{what}'")
        self._run("SELECT pg_reload_conf()")
        time.sleep(0.2)

    def _run(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)


PREPARED = re.compile(r"^PREPARE \w+ (\(.*?\) )?AS ", re.IGNORECASE)
PARAMETER = re.compile(r"\$\d+(::\w+)?")


def _plain(query: str) -> str:
    """The text without what differs between a statement and the same prepared."""
    return PARAMETER.sub("?", PREPARED.sub("", " ".join(query.split())))


@contextmanager
def started(size: int = 1, **options: Any) -> Iterator[Cluster]:
    """A cluster of ``size`` nodes with durable servers, its slots settled."""
    directory = Path(tempfile.mkdtemp(prefix="bench-cluster-"))
    try:
        options = {"durable": True, "postgres_settings": Statistics.PRELOAD} | options
        with LocalCluster(directory, size, **options) as local:
            cluster = Cluster(local)
            try:
                cluster.settled()
                yield cluster
            finally:
                cluster.database.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
