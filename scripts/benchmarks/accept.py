"""The scenario ``accept``: how fast a change is promised, over REST and AMQP, beside the least that could be done."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mgmtnode.testing.process import free_port
from mgmtnode.testing.servers import PostgresServer
from scripts.benchmarks import amqp_load, load
from scripts.benchmarks import cluster as clusters
from scripts.benchmarks.amqp_load import AmqpLoad
from scripts.benchmarks.cluster import Cluster
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.load import Load, Outcome
from scripts.benchmarks.node import Node, Refused
from scripts.benchmarks.peers.program import Program
from scripts.benchmarks.plots import Plot
from scripts.benchmarks.rounds import PeerFailed, Run, Sample
from scripts.benchmarks.usage import Meter

TITLE = "Changes accepted"
ABOUT = """
From the request to the durable 202. Ours is `POST /v1/zones` (over AMQP `zone.create`): authenticated, validated, the
job's row committed; meanwhile the jobs accepted before are run as well, two at a time while requests wait, and the CPU
is for each change until all have ended, as is the rate at which they are done. The floor is a bare ASGI application
that parses the body, inserts one row and commits: no authentication, no validation, nothing is done afterwards.
"""
FLOOR = "bare ASGI, one row"
AMQP, EMBEDDED, EMBEDDED_AMQP = f"{OURS} over AMQP", f"{OURS} embedded", f"{OURS} embedded over AMQP"
BODY = '{"name":"zone-{n}"}'
CLIENTS = (1, 100)
CASES = {f"{number} client{'s' if number > 1 else ''}": float(number) for number in CLIENTS}
PLOTS = (Plot("rate", "changes accepted a second", "accepted", "clients", CASES),)
DRAIN_SECONDS = 300.0

Send = Callable[[int, int], Outcome]


class Entrance:
    """One way in. ``drain`` returns once nothing is left to do of what was accepted."""

    def __init__(self, send: Send, meter: Meter, drain: Callable[[], object]) -> None:
        self._send, self._meter, self._drain = send, meter, drain

    def measure(self, count: int, clients: int) -> Sample:
        begin = time.monotonic()
        with self._meter.measure() as used:
            outcome = self._send(count, clients)
            self._drain()
        seconds = time.monotonic() - begin
        if outcome.statuses != {202: count}:
            raise PeerFailed(f"{outcome.statuses}: {outcome.failure}")
        return {
            "accepted, /s": count / outcome.seconds,
            "done, /s": count / seconds,
            "p50, ms": outcome.quantile(0.5) * 1000,
            "p99, ms": outcome.quantile(0.99) * 1000,
            **{f"CPU {who}, ms": spent / count * 1000 for who, spent in used.cpu.items()},
            "peak memory, MiB": used.peak["nodes"],
        }


def measure(run: Run) -> None:
    with _entrances(run) as entrances:
        for case, clients in CASES.items():
            count = (40 if clients == 1 else 400) * (1 if run.quick else 10)
            trials = {
                who: partial(entrance.measure, count, int(clients)) for who, entrance in entrances.items()
            }
            run.compare(case, trials)
    many = "100 clients"
    run.at_least("changes accepted by one node on PostgreSQL", many, "accepted", 1000)
    run.at_most("99th percentile with 100 clients", many, "p99", 100)
    run.ratio("changes accepted a second, to the floor", many, "accepted", FLOOR, 0.5, at_least=True)


def over_rest(port: int, token: str, count: int, clients: int) -> Outcome:
    return load.run(Load(port, token, count, clients, "POST", "/v1/zones", BODY))


def over_amqp(url: str, token: str, count: int, clients: int) -> Outcome:
    return amqp_load.run(AmqpLoad(url, token, "zone.create", count, clients, BODY))


def drained(call: Callable[..., Any]) -> None:
    """Returns once no job is open."""
    until = time.monotonic() + DRAIN_SECONDS
    while call("GET", "/jobs?limit=1&fields=uuid&q=api=zone.create&q=state?=Pending,Running")["items"]:
        if time.monotonic() > until:
            raise Refused("the jobs that were accepted do not end")
        time.sleep(0.05)


@contextmanager
def _entrances(run: Run) -> Iterator[dict[str, Entrance]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        cluster = stack.enter_context(clusters.started(1))
        found = _of_cluster(cluster)
        broker = cluster.local.rabbit.create_vhost("embedded")
        node = stack.enter_context(Node(directory / "data", variables={"MGMTNODE_API_AMQP_URL": broker}))
        found |= _of_node(node, broker)
        found[FLOOR] = _floor(stack, directory)
        settings = clusters.SETTINGS.format(nodes="one node")
        run.section.settings |= {
            OURS: settings,
            AMQP: f"{settings}; the load generator is kombu",
            EMBEDDED: "one process on SQLite with synchronous=FULL",
            EMBEDDED_AMQP: "the same, with the AMQP API on the cluster's RabbitMQ",
            FLOOR: "uvicorn with uvloop and httptools, psycopg2 in 8 threads, PostgreSQL with the same settings",
        }
        yield found


def _of_cluster(cluster: Cluster) -> dict[str, Entrance]:
    node = cluster.local.nodes["node-1"]
    url, token, drain = cluster.local.amqp_url, cluster.token, partial(drained, cluster.call)
    return {
        OURS: Entrance(partial(over_rest, node.port, token), cluster.meter, drain),
        AMQP: Entrance(partial(over_amqp, url, token), cluster.meter, drain),
    }


def _of_node(node: Node, url: str) -> dict[str, Entrance]:
    meter, drain = Meter({"nodes": lambda: [node.pid]}, memory=("nodes",)), partial(drained, node.call)
    return {
        EMBEDDED: Entrance(partial(over_rest, node.port, node.token), meter, drain),
        EMBEDDED_AMQP: Entrance(partial(over_amqp, url, node.token), meter, drain),
    }


def _floor(stack: ExitStack, directory: Path) -> Entrance:
    postgres = stack.enter_context(PostgresServer(durable=True))
    url, port = postgres.create_database("floor").replace("+psycopg2", ""), free_port()
    program = Program(Path(sys.executable), "asgi", ["serve", url, str(port)], directory / "asgi.log")
    stack.callback(program.stop)
    program.wait_ready()
    meter = Meter({"nodes": lambda: [program.pid], "PostgreSQL": lambda: [postgres.pid]}, memory=("nodes",))
    return Entrance(partial(over_rest, port, "none"), meter, lambda: None)
