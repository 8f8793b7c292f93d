"""The scenario ``scale``: more nodes, many hosts that are pinged, many subscribers of events."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from scripts.benchmarks import cloud as clouds
from scripts.benchmarks import cluster as clusters
from scripts.benchmarks import create
from scripts.benchmarks.cluster import Cluster
from scripts.benchmarks.create import OnCluster
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.fill import Filling
from scripts.benchmarks.plots import Plot
from scripts.benchmarks.rounds import Run, Sample
from scripts.benchmarks.usage import Meter

TITLE = "More nodes, hosts and subscribers"
ABOUT = """
VMs created by 100 clients on clusters of 1 to 8 nodes, a fresh cluster for each run: all nodes share the machine's
CPUs, so that what counts is the CPU for each VM. Pings: hosts that only answer pings are put into the database
directly, and their agents write down when they come; an interval varies by a tenth on purpose, late is what comes after
that. Events: subscribers of one node; the lag is from the
transaction that made the VM until the event has arrived.
"""
SIZES = (1, 2, 4, 8)
CASES = {f"VMs on {size} node{'s' if size > 1 else ''}": float(size) for size in SIZES}
PLOTS = (
    Plot("rate", "VMs created a second", "VMs", "nodes", CASES, log=False),
    Plot("cpu", "CPU of all nodes for each VM", "CPU nodes", "nodes", CASES, log=False),
)
JITTER = 1.1
"""The longest interval between two pings, in intervals as set."""

STREAMS = 500


def measure(run: Run) -> None:
    _nodes(run)
    _pings(run)
    _events(run)


def _nodes(run: Run) -> None:
    count = 200 if run.quick else 1000
    sizes = {
        case: int(size) for case, size in CASES.items() if run.wanted(case) and (size <= 2 or not run.quick)
    }
    samples: dict[str, list[Sample]] = {case: [] for case in sizes}
    for number in range(run.rounds):
        for case, size in sizes.items():
            run.tell(f"{case}, round {number + 1}")
            samples[case].append(_vms(size, count))
    for case, found in samples.items():
        run.record(case, OURS, found)
    one, four = (run.section.find(f"VMs on {n}", "CPU nodes") for n in ("1 node", "4 nodes"))
    if one and four:
        run.claim("CPU for each VM, 4 nodes to one", four.median / one.median, "×", 1.15)


def _vms(size: int, count: int) -> Sample:
    with clusters.started(size) as cluster:
        maker = OnCluster(cluster)
        create.create(maker, count // 4)
        return create.create(maker, count)


def _pings(run: Run) -> None:
    for hosts in (2_000,) if run.quick else (10_000, 100_000):
        interval = 10 if run.quick else 60
        case = f"{hosts:,} hosts pinged every {interval} s"
        if run.wanted(case):
            run.tell(case)
            run.record(case, OURS, _pinged(run, hosts, interval))
            if hosts == 10_000:
                run.at_most(f"{case}: CPU of the node", case, "CPU node", 15)


def _pinged(run: Run, hosts: int, interval: int) -> list[Sample]:
    with _agents() as (agents, port):
        url = f"http://127.0.0.1:{port}"
        with clusters.started(1, variables={"MGMTNODE_SIMULATOR_AGENTS_URL": url}) as cluster:
            cloud = clouds.make(cluster, 0)
            clouds.settle(cluster, "host.ping_interval", interval)
            Filling(cluster.local.database_url, cloud).hosts(hosts)
            node = cluster.local.nodes["node-1"]
            node.restart()  # so that it takes the hosts over now
            _until_all_known(agents, hosts, interval)
            meter = Meter(
                {"node": lambda: [node.pid], "PostgreSQL": lambda: [cluster.local.postgres.pid]}, ("node",)
            )
            return [_watched(agents, meter, interval) for _ in range(run.rounds)]


def _watched(agents: subprocess.Popen[str], meter: Meter, interval: int) -> Sample:
    _asked(agents)
    with meter.measure() as used:
        time.sleep(interval * JITTER)
    told = _asked(agents)
    return {
        "pings, /s": told["pings"] / used.wall,
        "CPU node, %": 100 * used.cpu["node"] / used.wall,
        "CPU PostgreSQL, %": 100 * used.cpu["PostgreSQL"] / used.wall,
        "late p99, s": max(0.0, told["p99"] - interval * JITTER),
        "late at most, s": max(0.0, told["longest"] - interval * JITTER),
        "peak memory, MiB": used.peak["node"],
    }


def _until_all_known(agents: subprocess.Popen[str], hosts: int, interval: int) -> None:
    """Once every host was looked at, and one more interval has gone by."""
    until = time.monotonic() + 900
    while _asked(agents)["hosts"] < hosts:
        if time.monotonic() > until:
            raise TimeoutError("the node does not ping all hosts")
        time.sleep(1)
    time.sleep(interval * JITTER)


@contextmanager
def _agents() -> Iterator[tuple[subprocess.Popen[str], int]]:
    with _helper("scripts.benchmarks.ping_agents") as process:
        yield process, int(_line(process)["port"])


def _events(run: Run) -> None:
    count, streams = (50, 50) if run.quick else (500, STREAMS)
    case = f"{count} VMs created, each told to {streams} subscribers"
    if not run.wanted(case):
        return
    with clusters.started(1) as cluster:
        maker = OnCluster(cluster)
        port = cluster.local.nodes["node-1"].port
        words = [str(port), cluster.token, str(streams)]
        with _helper("scripts.benchmarks.sse_load", *words) as subscribers:
            _line(subscribers)
            run.compare(case, {OURS: partial(_told, cluster, maker, subscribers, count)})


def _told(cluster: Cluster, maker: OnCluster, subscribers: subprocess.Popen[str], count: int) -> Sample:
    begin = time.time()
    with cluster.meter.measure() as used:
        create.create(maker, count)
        told = _asked(subscribers, count)
    return {
        "events told, /s": told["heard"] / (told["last"] - begin),
        "lag p50, ms": told["p50"] * 1000,
        "lag p99, ms": told["p99"] * 1000,
        "CPU node, s": used.cpu["nodes"],
        "peak memory, MiB": used.peak["nodes"],
    }


@contextmanager
def _helper(module: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that answers lines with JSON, and ends when its standard input does."""
    command = [sys.executable, "-m", module, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
            process.terminate()


def _asked(process: subprocess.Popen[str], word: object = "") -> dict[str, float]:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return _line(process)


def _line(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended")
    return dict(json.loads(line))
