"""The scenario ``core``: what the embedded default does on one machine, against its targets."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

from scripts.benchmarks import cloud as clouds
from scripts.benchmarks import load as loads
from scripts.benchmarks.cloud import Cloud
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.load import Load, Outcome
from scripts.benchmarks.node import Node, Refused
from scripts.benchmarks.rounds import Run, Sample

TITLE = "The embedded default"
ABOUT = """
One process on SQLite with `synchronous=FULL`, hosts simulated in it, and the load generator in a process of its own.
CPU and memory are the node's.
"""
HOSTS = 100
CLIENTS = 100
WAIT = 60
AGENT_MS = 5000
DRAIN_SECONDS = 600.0
PAGES = {
    "first": "",
    "host.cluster.name=x": "q=" + quote("host.cluster.name=cluster-7"),
    "host.cluster.name=x, newest first": "sort=-created_at&q=" + quote("host.cluster.name=cluster-7"),
    "newest first": "sort=-created_at",
    "user_tag=x": "q=" + quote("user_tag=team-100"),
    "host.cluster.name=x with count": "count=true&q=" + quote("host.cluster.name=cluster-7"),
    "all with count": "count=true",
}


def measure(run: Run) -> None:
    for name, part in PARTS.items():
        if run.wanted(name):
            part(run)


def boot(run: Run) -> None:
    samples: dict[str, list[Sample]] = {"boot, fresh data directory": [], "boot, existing data": []}
    for _ in range(run.rounds):
        with _directory() as directory:
            for found in samples.values():
                found.append(_boot(directory))
    for case, found in samples.items():
        run.record(case, OURS, found)
        run.at_most(f"{case}: until ready", case, "until ready", 2)
        run.at_most(f"{case}: idle memory", case, "memory", 120)


def _boot(directory: Path) -> Sample:
    with Node(directory, hosts=10) as node:
        return {
            "until ready, s": node.serving_seconds,
            "until 10 hosts are there, s": node.ready_seconds,
            "CPU, s": node.cpu(),
            "memory, MiB": node.rss(),
        }


def statements(run: Run) -> None:
    count = 200 if run.quick else 1000
    with _cloud(counted=True) as (node, cloud):
        _create(node, cloud, 20, 1)
        before = node.counts()
        _create(node, cloud, count, CLIENTS)
        after = node.counts()
    found = {f"SQL {what} for each VM, ": (after[what] - before[what]) / count for what in before}
    run.record(f"statements, {CLIENTS} clients", OURS, [found], counted=True)
    run.at_most("SQL commits for each VM", f"statements, {CLIENTS} clients", "SQL commits for each VM", 3)


def creates(run: Run) -> None:
    count = 200 if run.quick else 1000
    case = f"{count:,} VMs created, {CLIENTS} clients"
    with _cloud() as (node, cloud):
        run.compare(case, {OURS: partial(_created, node, cloud, count)})
    run.at_most(f"{case}: all done", case, "all done", 15)


def _created(node: Node, cloud: Cloud, count: int) -> Sample:
    before = node.cpu()
    outcome = _create(node, cloud, count, CLIENTS)
    return {
        "all done, s": outcome.seconds,
        "VMs, /s": count / outcome.seconds,
        "p95, ms": outcome.quantile(0.95) * 1000,
        "CPU, ms": (node.cpu() - before) / count * 1000,
    }


def in_flight(run: Run) -> None:
    """Not in rounds: it is about memory, and takes minutes."""
    count = 500 if run.quick else 10_000
    case = f"{count:,} VM creates in flight at once"
    with _cloud() as (node, cloud):
        _hang(node, cloud)  # none ends before all have begun
        node.forget_peak()
        accepted = _create(node, cloud, count, CLIENTS, wait=0)
        _until(lambda: _jobs(node, "state=Running") >= count, "not all were taken up")
        held, cpu = node.peak(), node.cpu()
        for host in cloud.hosts:
            node.call("POST", f"/hosts/{host}/actions/clear-faults")
        begin = time.perf_counter()
        _until(lambda: _jobs(node, "state=Succeeded") >= count, "not all succeeded")
        found = {
            "accepted in, s": accepted.seconds,
            "memory while all wait, MiB": held,
            "done once the hosts answer, s": time.perf_counter() - begin,
            "CPU of that, s": node.cpu() - cpu,
            "peak memory, MiB": node.peak(),
        }
    run.record(case, OURS, [found])
    run.at_most("peak memory with 10,000 VM creates in flight", case, "peak memory", 500)


def _hang(node: Node, cloud: Cloud) -> None:
    clouds.settle(node, "simulator.delay_ms", AGENT_MS)
    clouds.settle(node, "host.sync_level", 200)
    clouds.settle(node, "job.deadline", 3600)
    for host in cloud.hosts:
        fault = {"fault": {"kind": "hang", "action": "start"}}
        node.call("POST", f"/hosts/{host}/actions/simulate-fault", fault)


def pages(run: Run) -> None:
    rows, requests = (5_000, 50) if run.quick else (100_000, 200)
    with _cloud() as (node, cloud):
        clouds.fill(node.directory, cloud, rows)
        asked = PAGES | {"deep, after nine tenths": f"cursor={_deep(node, rows * 9 // 10)}"}
        for name, query in asked.items():
            case = f"page of 100 of {rows:,} VMs: {name}"
            load = Load(node.port, node.token, requests, 1, "GET", f"/v1/vms?limit=100&{query}")
            run.compare(case, {OURS: partial(_page, load)})
            run.at_most(case, case, "p95", 50)


def _page(load: Load) -> Sample:
    outcome = _checked(loads.run(load))
    return {"p50, ms": outcome.quantile(0.5) * 1000, "p95, ms": outcome.quantile(0.95) * 1000}


def command_line(run: Run) -> None:
    command = [sys.executable, "-c", "from mgmtnode.client.mnctl.main import main; main()", "--help"]

    def once() -> Sample:
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
        return {"all done, s": time.perf_counter() - begin}

    run.compare("mnctl --help", {OURS: once})
    run.at_most("mnctl --help", "mnctl --help", "all done", 0.4)


PARTS: dict[str, Callable[[Run], None]] = {
    "boot": boot,
    "statements": statements,
    "created": creates,
    "in flight": in_flight,
    "page": pages,
    "mnctl": command_line,
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


def _jobs(node: Node, *conditions: str) -> int:
    wanted = "".join(f"&q={quote(condition)}" for condition in ("api=vm.create", *conditions))
    return int(node.call("GET", f"/jobs?limit=1&count=true&fields=uuid{wanted}")["total"])


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
