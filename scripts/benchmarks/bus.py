"""The scenario ``bus``: calls from one process to another over RabbitMQ, beside what users would pick instead."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mgmtnode.testing.servers import RabbitServer, RedisServer, ServerMissing
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.peers.environments import NotInstalled, python_of
from scripts.benchmarks.peers.program import Program
from scripts.benchmarks.plots import Plot
from scripts.benchmarks.rounds import Run, Sample
from scripts.benchmarks.usage import Meter

TITLE = "Calls between services"
ABOUT = """
Request and reply between two processes on this machine over one private RabbitMQ, all programs in the same run and in
turns. The caller keeps a number of calls outstanding; the handler answers the text it was sent. CPU is that of the
calling process, the answering process and the broker, for each call; memory is the peak of both processes.
"""
SMALL, LARGE = 480, 4060
"""Characters of the text that make arguments of 500 bytes and 4 KiB."""

REDIS = f"{OURS} over Redis"


OUTSTANDING = (1, 100, 1000)
SIZES = {f"500 B, {number:,} outstanding": float(number) for number in OUTSTANDING}
PLOTS = (
    Plot("calls", "calls a second, 500 B", "calls", "calls outstanding", SIZES),
    Plot("latency", "median latency, 500 B", "p50", "calls outstanding", SIZES),
)


@dataclass(frozen=True)
class Peer:
    """``name`` as in the tables. ``waits``: words for a server whose handlers wait, where that takes another one.
    ``together``: whether a client can have more than one call outstanding at all."""

    name: str
    program: str
    settings: str
    words: Sequence[str] = ()
    waits: Sequence[str] = ()
    together: bool = True


OURSELVES = Peer(
    OURS, "mgmtnode", "its bus as a node runs it: kombu on the event loop, batches, deadlines, uvloop"
)
PEERS = (
    Peer("plain kombu", "kombu", "one thread, transient, no acknowledgements, no confirms, JSON"),
    Peer(
        "aio-pika",
        "aio_pika",
        "the RPC tutorial with uvloop, transient, no acknowledgements, no confirms, JSON",
    ),
    Peer(
        "FastStream",
        "faststream",
        "broker.request, which sends the next request when the last is answered; uvloop, acknowledged on arrival, no "
        "confirms, no log",
        together=False,
    ),
    Peer(
        "nameko",
        "nameko",
        "10,000 workers and prefetch, transient, no confirms, JSON, standalone client with call_async",
    ),
    Peer(
        "Celery",
        "celery",
        "one worker, RPC result backend, transient, acknowledged early, prefetch unlimited, JSON; pool solo, for "
        "handlers that wait gevent with 10,000 greenlets",
        ("solo",),
        ("gevent",),
    ),
    Peer(
        "oslo.messaging",
        "oslo",
        "threading executor with 1,000 threads, 30 connections, as many calling threads",
    ),
)


class Pair:
    """A serving and a calling process of one peer, and the broker between them."""

    def __init__(self, peer: Peer, python: Path, broker: RabbitServer | RedisServer, log: Path) -> None:
        self.peer, self._python, self._log, self._broker = peer, python, log, broker
        self._meters: dict[bool, tuple[Program, Meter]] = {}
        self._programs: list[Program] = []
        self.about = ""

    def stop(self) -> None:
        for program in self._programs:
            program.stop()

    def measure(self, outstanding: int, size: int, seconds: float) -> Sample:
        return self._measure(False, outstanding=outstanding, size=size, seconds=seconds)

    def measure_local(self, seconds: float) -> Sample:
        caller, _ = self._started(False)
        found = caller.ask(outstanding=1, size=SMALL, seconds=seconds, to="a")
        return {"calls, /s": found["calls"] / found["seconds"], "one call, µs": found["p50"] * 1e6}

    def measure_waiting(self, count: int) -> Sample:
        sample = self._measure(bool(self.peer.waits), outstanding=count, size=SMALL, count=count, wait=1.0)
        wanted = ("all done, s", "CPU caller, s", "CPU server, s", "CPU broker, s", "peak memory, MiB")
        return {key: sample[key] for key in wanted}

    def _measure(self, waiting: bool, **order: Any) -> Sample:
        caller, meter = self._started(waiting)
        with meter.measure() as used:
            found = caller.ask(**order)
        calls = found["calls"]
        per_call = {f"CPU {who}, µs": used.cpu[who] / calls * 1e6 for who in used.cpu}
        whole = {f"CPU {who}, s": used.cpu[who] for who in used.cpu}
        return {
            "calls, /s": calls / found["seconds"],
            "p50, ms": found["p50"] * 1000,
            "p99, ms": found["p99"] * 1000,
            **per_call,
            "peak memory, MiB": used.peak["caller"] + used.peak["server"],
            **({"all done, s": found["seconds"]} | whole if order.get("count") else {}),
        }

    def _started(self, waiting: bool) -> tuple[Program, Meter]:
        if waiting not in self._meters:
            words = [self._broker.url, *(self.peer.waits if waiting else self.peer.words)]
            server, caller = self._start("serve", words), self._start("call", words)
            groups = {
                "caller": lambda: [caller.pid],
                "server": lambda: [server.pid],
                "broker": lambda: [self._broker.pid],
            }
            self._meters[waiting] = caller, Meter(groups, memory=("caller", "server"))
            self.about = caller.about
        return self._meters[waiting]

    def _start(self, what: str, words: list[str]) -> Program:
        program = Program(self._python, self.peer.program, [what, *words], self._log)
        self._programs.append(program)
        program.wait_ready()
        return program


def measure(run: Run) -> None:
    sizes = {"500 B": SMALL} if run.quick else {"500 B": SMALL, "4 KiB": LARGE}
    seconds = 0.5 if run.quick else 3.0
    with _pairs(run) as pairs:
        ours = pairs[OURS]
        run.compare("call on the same node", {OURS: partial(ours.measure_local, seconds)})
        for size, characters in sizes.items():
            for outstanding in OUTSTANDING:
                trials = {
                    who: partial(pair.measure, outstanding, characters, seconds)
                    for who, pair in pairs.items()
                }
                run.compare(f"{size}, {outstanding:,} outstanding", trials)
        count = 1_000 if run.quick else 10_000
        waiting = {
            who: partial(pair.measure_waiting, count) for who, pair in pairs.items() if pair.peer.together
        }
        run.compare(f"{count:,} calls at once, the handler waits 1 s", waiting)
        for who, pair in pairs.items():
            run.section.settings[who] = f"{pair.about}: {run.section.settings[who]}"
    _claim(run)


def _claim(run: Run) -> None:
    many, one = "500 B, 1,000 outstanding", "500 B, 1 outstanding"
    run.at_least("calls between two nodes", many, "calls", 10_000)
    for peer, bound in (("nameko", 20), ("Celery", 20), ("plain kombu", 3)):
        run.ratio(f"as many calls as {peer}", many, "calls", peer, bound, at_least=True)
    for peer, share in (("nameko", 1 / 20), ("Celery", 1 / 20), ("plain kombu", 1 / 3)):
        run.ratio(
            f"CPU of the caller for each call, to {peer}'s", many, "CPU caller", peer, share, at_least=False
        )
    run.ratio("one call at a time, to plain kombu's", one, "p50", "plain kombu", 1.3, at_least=False)
    run.at_most("10,000 calls that wait 1 s", "10,000 calls at once, the handler waits 1 s", "all done", 1.8)
    run.at_most("call on the same node", "call on the same node", "one call", 25)


@contextmanager
def _pairs(run: Run) -> Iterator[dict[str, Pair]]:
    """All that can run here, the product first."""
    with ExitStack() as stack:
        rabbit = stack.enter_context(RabbitServer())
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        pairs: dict[str, Pair] = {}

        def add(name: str, peer: Peer, python: Path, broker: RabbitServer | RedisServer) -> None:
            pairs[name] = Pair(peer, python, broker, logs / f"{peer.program}.log")
            stack.callback(pairs[name].stop)
            run.section.settings[name] = peer.settings

        add(OURS, OURSELVES, Path(sys.executable), rabbit)
        if (redis := _redis(run)) is not None:
            add(REDIS, OURSELVES, Path(sys.executable), stack.enter_context(redis))
        for peer in PEERS:
            try:
                add(peer.name, peer, python_of(peer.program), rabbit)
            except NotInstalled as reason:
                run.note(f"{peer.name} is missing: it does not install: {reason}")
        yield pairs


def _redis(run: Run) -> RedisServer | None:
    server = RedisServer()
    try:
        server.find()
    except ServerMissing as missing:
        run.note(f"{REDIS} is missing: {missing}")
        return None
    return server
