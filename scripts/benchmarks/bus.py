"""Measures the bus: a local call, and calls to a second process over a private RabbitMQ or Redis.

usage: scripts/bench bus [--seconds 3] [--over rabbitmq|redis] [--local-only]

Prints one JSON object. Run it on a machine that does nothing else: the figures halve under load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from typing import ClassVar

import uvloop

from mgmtnode.bus.bus import Bus
from mgmtnode.bus.choice import transport_over
from mgmtnode.bus.memory import Hub
from mgmtnode.bus.message import Internal, Route, to_node
from mgmtnode.bus.transport import Transport, address_of
from mgmtnode.ports import SystemClock, SystemRng
from mgmtnode.ring.slots import SLOTS, SlotOwner, Slots
from mgmtnode.schema import Data
from mgmtnode.testing.servers import RabbitServer, RedisServer
from scripts.benchmarks.processes import cpu_of

OUTSTANDING = (1, 10, 100, 1000)
PAYLOAD = "x" * 400


class Answer(Data, kw_only=True):
    text: str


class Ask(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = to_node("node")

    node: str
    text: str


async def answer(msg: Ask) -> Answer:
    return Answer(text=msg.text)


def make_bus(name: str, transport: Transport) -> Bus:
    slots = Slots(name)
    slots.replace(dict.fromkeys(range(SLOTS), SlotOwner("a", 1)), 1, {"a": 0, "b": 0})
    bus = Bus(name, slots, transport, clock=SystemClock(), rng=SystemRng())
    bus.handle(Ask, answer, serial="node:{node}" if name == "serial" else "")
    return bus


async def local(name: str, seconds: float) -> float:
    """µs a call."""
    bus = make_bus(name, Hub().transport(address_of(name, 0)))
    await bus.start()
    msg = Ask(node=name, text=PAYLOAD)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(1000):
            await bus.call(msg)
        count += 1000
    taken = time.perf_counter() - start
    await bus.stop()
    return taken / count * 1e6


async def remote(url: str, seconds: float, server: int) -> dict[str, dict[str, float]]:
    """By calls outstanding: calls a second, and µs of CPU for each, of the calling process and of both. ``server``:
    the pid of the one that answers."""
    bus = make_bus("a", transport_over(url, address_of("a", 0), clock=SystemClock(), rng=SystemRng()))
    await bus.start()
    msg = Ask(node="b", text=PAYLOAD)
    figures = {}
    for outstanding in OUTSTANDING:
        count, until = 0, time.perf_counter() + seconds

        async def ask_in_turn(until: float = until) -> None:
            nonlocal count
            while time.perf_counter() < until:
                await bus.call(msg)
                count += 1

        start, cpu, other = time.perf_counter(), time.process_time(), cpu_of(server)
        await asyncio.gather(*(ask_in_turn() for _ in range(outstanding)))
        taken, cpu = time.perf_counter() - start, time.process_time() - cpu
        figures[str(outstanding)] = {
            "calls_per_second": round(count / taken),
            "cpu_us": round(cpu / count * 1e6, 1),
            "both_cpu_us": round((cpu + cpu_of(server) - other) / count * 1e6, 1),
        }
    await bus.stop()
    return figures


async def serve(url: str) -> None:
    """Until its standard input ends."""
    bus = make_bus("b", transport_over(url, address_of("b", 0), clock=SystemClock(), rng=SystemRng()))
    await bus.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await bus.stop()


def over(broker: RabbitServer | RedisServer, seconds: float) -> dict[str, dict[str, float]]:
    with broker:
        # Imported, not run as __main__: messages are called after the module that defines them.
        serve = "from scripts.benchmarks.bus import main; main()"
        command = [sys.executable, "-c", serve, "--serve", broker.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None and server.stdin is not None
            if server.stdout.readline() != b"ready\n":
                raise SystemExit("the serving process did not start")
            try:
                return uvloop.run(remote(broker.url, seconds, server.pid))
            finally:
                server.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    parser.add_argument("--over", choices=("rabbitmq", "redis"), default="rabbitmq", help="a private one")
    parser.add_argument("--local-only", action="store_true")
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
        return
    figures: dict[str, object] = {
        "local_us": round(uvloop.run(local("a", options.seconds)), 2),
        "local_serial_us": round(uvloop.run(local("serial", options.seconds)), 2),
    }
    if not options.local_only:
        broker = RedisServer() if options.over == "redis" else RabbitServer()
        figures[f"{options.over}_outstanding"] = over(broker, options.seconds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
