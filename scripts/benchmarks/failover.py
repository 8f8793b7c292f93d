"""The scenario ``failover``: what clients see when a node, the broker or the database goes away under load."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from mgmtnode.testing.local_cluster.cluster import NodeProcess
from mgmtnode.testing.local_cluster.load import Book, Load
from scripts.benchmarks import cloud as clouds
from scripts.benchmarks import cluster as clusters
from scripts.benchmarks.cluster import Cluster
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.rounds import Run, Sample

TITLE = "Failover"
ABOUT = """
Three nodes behind HAProxy, 20 clients that create VMs, stop and start some, and read them; in the middle of it one node
is killed (`SIGKILL`), stands still (`SIGSTOP`) or is drained (`SIGTERM`), or the broker or the database is cut off and
started again. Takeover: until the last slot of the node belongs to another one. A failed attempt is a request that got
a 5xx, a 429 or no answer; the product's own client repeats it with its idempotency key, so that no caller notices.
Lost: jobs that were acknowledged and did not succeed.
"""
NODES, HOSTS, CLIENTS = 3, 50, 20
FAULTS = 20
"""Of each kind; a quick run has 2."""

Fault = Callable[[Cluster, NodeProcess], float]


def measure(run: Run) -> None:
    kinds = {kind: fault for kind, fault in KINDS.items() if run.wanted(kind)}
    samples: dict[str, list[Sample]] = {kind: [] for kind in kinds}
    with clusters.started(NODES, durable=False) as cluster:
        clouds.make(cluster, HOSTS)
        names = sorted(cluster.local.nodes)
        for number in range(2 if run.quick else FAULTS):
            for kind, fault in kinds.items():
                run.tell(f"{kind} {number + 1}")
                node = cluster.local.nodes[names[number % NODES]]
                book, taken = _struck(cluster, node, fault, f"{kind}-{number}".replace(" ", "-"))
                samples[kind].append(taken | _seen(book))
                for reason, count in book.reasons.most_common(3):
                    run.note(f"{kind} {number + 1}: {count} × {reason}")
    for kind, found in samples.items():
        run.record(kind, OURS, found)
        run.claim(f"{kind}: acknowledged jobs that did not succeed", sum(s["lost, "] for s in found), "", 0)
    run.at_most("takeover after kill -9", "kill", "takeover", 3)


def _struck(cluster: Cluster, node: NodeProcess, fault: Fault, name: str) -> tuple[Book, Sample]:
    _supervise(cluster)
    load = Load(cluster.local.url, cluster.token, name, vms=300, clients=CLIENTS).start()
    load.acknowledged(CLIENTS)
    taken = fault(cluster, node)
    return load.finish(), {"takeover, s": taken} if fault in NODE_FAULTS else {}


def _supervise(cluster: Cluster) -> None:
    """What systemd does: a node that ended by itself, as one does that was evicted, is started again."""
    for node in cluster.local.nodes.values():
        if not node.running:
            node.start()
            node.wait_ready()
    cluster.settled()


def _seen(book: Book) -> Sample:
    lost = sum(book.ended.get(job) != "Succeeded" for job in book.acknowledged.values())
    return {
        "longest wait of a client, s": max(seconds for _, seconds in book.answers),
        "failed attempts, ": len(book.failures),
        "of all attempts, %": 100 * len(book.failures) / book.attempts,
        "lost, ": lost,
    }


def end(cluster: Cluster, node: NodeProcess, *, gently: bool) -> float:
    began = time.monotonic()
    node.terminate() if gently else node.kill()
    taken = cluster.until_owns_nothing(node.name) - began
    node.start()
    node.wait_ready()
    return taken


def pause(cluster: Cluster, node: NodeProcess) -> float:
    began = time.monotonic()
    node.pause()
    taken = cluster.until_owns_nothing(node.name) - began
    node.resume()
    node.wait()  # it finds that it was evicted, and ends
    node.start()
    node.wait_ready()
    return taken


kill, drain = partial(end, gently=False), partial(end, gently=True)


def restart(cluster: Cluster, node: NodeProcess, *, what: str) -> float:
    server = cluster.local.rabbit if what == "broker" else cluster.local.postgres
    began = time.monotonic()
    server.restart("immediate")
    return time.monotonic() - began


NODE_FAULTS = (kill, pause, drain)
KINDS: dict[str, Fault] = {
    "kill": kill,
    "pause": pause,
    "drain": drain,
    "broker restart": partial(restart, what="broker"),
    "database restart": partial(restart, what="database"),
}
