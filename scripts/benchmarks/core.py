"""The suite ``core``: what the embedded default does on one machine, against its targets."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import uvloop

from scripts.benchmarks import cloud as clouds
from scripts.benchmarks import load as loads
from scripts.benchmarks.cloud import Cloud
from scripts.benchmarks.figures import Figure, Report, median, new_report
from scripts.benchmarks.load import Load, Outcome
from scripts.benchmarks.node import Node, Refused

HOSTS = 100
CLIENTS = 100
WAIT = 60
AGENT_MS = 5000
DRAIN_SECONDS = 600.0


class Scale:
    """How much is done. ``quick`` is for seeing that everything still works."""

    def __init__(self, quick: bool) -> None:
        self.runs = 1 if quick else 3
        self.creates = 200 if quick else 1000
        self.in_flight = 500 if quick else 10_000
        self.rows = 5_000 if quick else 100_000
        self.requests = 50 if quick else 200


def run(*, quick: bool, only: str = "") -> Report:
    """Measures all parts whose name has ``only`` in it."""
    scale, report = Scale(quick), new_report("core", quick=quick)
    for name, part in PARTS.items():
        if only in name:
            print(f"… {name}", file=sys.stderr, flush=True)
            report.figures += part(scale)
    return report


def boot(scale: Scale) -> Iterator[Figure]:
    fresh, again, rss, cpu = [], [], [], []
    for _ in range(scale.runs + 2):
        with _directory() as directory:
            with Node(directory, hosts=10) as node:
                fresh.append(node.serving_seconds)
                seeded = node.ready_seconds
            with Node(directory, hosts=10) as node:
                again.append(node.serving_seconds)
                rss.append(node.rss())
                cpu.append(node.cpu())
    yield median("boot to ready, fresh data directory", "s", fresh, 2.0)
    yield Figure("boot to the development cloud of 10 hosts made", round(seeded, 2), "s")
    yield median("boot to ready, existing data", "s", again, 2.0)
    yield median("CPU until then", "s", cpu)
    yield median("memory when ready", "MiB RSS", rss, 150.0)


def creates(scale: Scale) -> Iterator[Figure]:
    name = f"{scale.creates:,} VMs created on {HOSTS} hosts by {CLIENTS} clients"
    walls, cpus, singles = [], [], []
    with _cloud() as (node, cloud):
        single = _create(node, cloud, scale.requests, 1)
        singles += [latency * 1000 for latency in single.latencies]
        for _ in range(scale.runs):
            cpu = node.cpu()
            outcome = _create(node, cloud, scale.creates, CLIENTS)
            cpus.append((node.cpu() - cpu) / scale.creates * 1000)
            walls.append(outcome.seconds)
        rss = node.rss()
    yield median(name, "s", walls, 15.0 * scale.creates / 1000)
    yield median("CPU of the node for each of them", "ms", cpus)
    yield Figure("memory after them", round(rss), "MiB RSS")
    yield Figure("one VM created, median", round(statistics.median(singles), 2), "ms")
    yield Figure("one VM created, 95th percentile", round(sorted(singles)[int(0.95 * len(singles))], 2), "ms")


def statements(scale: Scale) -> Iterator[Figure]:
    with _cloud(counted=True) as (node, cloud):
        _create(node, cloud, 20, 1)
        before = node.counts()
        _create(node, cloud, scale.creates, CLIENTS)
        after = node.counts()
    for what in before:
        target = 3.5 if what == "commits" else None
        yield Figure(
            f"SQL {what} for each VM, {CLIENTS} clients",
            round((after[what] - before[what]) / scale.creates, 2),
            "",
            target,
        )


def in_flight(scale: Scale) -> Iterator[Figure]:
    name = f"{scale.in_flight:,} VM creates in flight at once"
    with _cloud() as (node, cloud):
        clouds.settle(node, "simulator.delay_ms", AGENT_MS)
        clouds.settle(node, "host.sync_level", 200)
        clouds.settle(node, "job.deadline", 3600)
        for host in cloud.hosts:  # none ends before all have begun
            node.call(
                "POST",
                f"/hosts/{host}/actions/simulate-fault",
                {"fault": {"kind": "hang", "action": "start"}},
            )
        node.forget_peak()
        accepted = _create(node, cloud, scale.in_flight, CLIENTS, wait=0)
        _until(lambda: _running(node) >= scale.in_flight, "not all were taken up")
        held, cpu = node.peak(), node.cpu()
        for host in cloud.hosts:
            node.call("POST", f"/hosts/{host}/actions/clear-faults")
        begin = time.perf_counter()
        _until(lambda: _ended(node, "state=Succeeded") >= scale.in_flight, "not all succeeded")
        taken = time.perf_counter() - begin
        yield Figure(f"{name}: peak memory", round(node.peak()), "MiB RSS", 500.0)
        yield Figure("  memory when all wait for their hosts", round(held), "MiB RSS")
        yield Figure("  accepted in", round(accepted.seconds, 2), "s")
        yield Figure("  finished in, once the hosts answer", round(taken, 2), "s")
        yield Figure("  CPU of the node meanwhile", round(node.cpu() - cpu, 2), "s")
        yield Figure("  failed", scale.in_flight - _ended(node, "state=Succeeded"), "VMs", 1.0)


def pages(scale: Scale) -> Iterator[Figure]:
    asked = {
        "host.cluster.name=x": "q=" + quote("host.cluster.name=cluster-7"),
        "host.cluster.name=x, newest first": "sort=-created_at&q=" + quote("host.cluster.name=cluster-7"),
        "newest first": "sort=-created_at",
        "user_tag=x": "q=" + quote("user_tag=team-100"),
        "host.cluster.name=x with count": "count=true&q=" + quote("host.cluster.name=cluster-7"),
        "all with count": "count=true",
    }
    with _cloud() as (node, cloud):
        clouds.fill(node.directory, cloud, scale.rows)
        asked["deep, after nine tenths"] = f"cursor={_deep(node, scale.rows * 9 // 10)}"
        for name, query in asked.items():
            load = Load(node.port, node.token, scale.requests, 1, "GET", f"/v1/vms?limit=100&{query}")
            outcome = _checked(loads.run(load))
            title = f"page of 100 of {scale.rows:,} VMs: {name}"
            yield Figure(f"{title}, median", round(outcome.quantile(0.5) * 1000, 2), "ms")
            yield Figure(f"{title}, 95th percentile", round(outcome.quantile(0.95) * 1000, 2), "ms", 50.0)


def command_line(scale: Scale) -> Iterator[Figure]:
    command = [sys.executable, "-c", "from mgmtnode.client.mnctl.main import main; main()", "--help"]
    runs = []
    for _ in range(2 * scale.runs + 1):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
        runs.append(time.perf_counter() - begin)
    yield median("mnctl --help", "s", runs, 0.4)


def bus(scale: Scale) -> Iterator[Figure]:
    from scripts.benchmarks.bus import local

    runs = [uvloop.run(local("a", 0.5)) for _ in range(scale.runs)]
    yield median("call of a service on the same node", "µs", runs)


PARTS: dict[str, Callable[[Scale], Iterator[Figure]]] = {
    "boot": boot,
    "creates": creates,
    "statements": statements,
    "in flight": in_flight,
    "pages": pages,
    "mnctl": command_line,
    "bus": bus,
}


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        yield Path(directory) / "data"


@contextmanager
def _cloud(*, counted: bool = False) -> Iterator[tuple[Node, Cloud]]:
    with _directory() as directory, Node(directory, counted=counted) as node:
        yield node, clouds.make(node, HOSTS)


def _create(node: Node, cloud: Cloud, count: int, clients: int, *, wait: int = WAIT) -> Outcome:
    load = Load(node.port, node.token, count, clients, "POST", "/v1/vms", cloud.vm, wait)
    return _checked(loads.run(load))


def _checked(outcome: Outcome) -> Outcome:
    if outcome.failure:
        raise Refused(f"{outcome.statuses}: {outcome.failure}")
    return outcome


def _ended(node: Node, *conditions: str) -> int:
    wanted = "".join(f"&q={quote(condition)}" for condition in ("api=vm.create", *conditions))
    return int(node.call("GET", f"/jobs?limit=1&count=true&fields=uuid{wanted}")["total"])


def _running(node: Node) -> int:
    return _ended(node, "state=Running")


def _until(there: Callable[[], bool], otherwise: str) -> None:
    until = time.perf_counter() + DRAIN_SECONDS
    while not there():
        if time.perf_counter() > until:
            raise Refused(otherwise)
        time.sleep(0.25)


def _deep(node: Node, skip: int) -> str:
    cursor = ""
    for _ in range(skip // 1000):
        page = node.call("GET", f"/vms?limit=1000&fields=uuid{f'&cursor={quote(cursor)}' if cursor else ''}")
        cursor = page["next_cursor"]
    return quote(cursor)
