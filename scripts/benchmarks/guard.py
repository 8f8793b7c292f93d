"""What does not depend on the machine: SQL statements and commits of one change, messages of a call between nodes.

PostgreSQL counts, whoever sends it what. ``limits.toml`` has what may not be exceeded; tests/benchmarks holds the code
to it, and ``scripts/bench guard`` prints what is counted now (``--write`` records it: review the difference).
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg2 import extensions  # type: ignore[import-untyped]

from mgmtnode.bus.bus import Bus
from mgmtnode.bus.memory import Hub
from mgmtnode.bus.transport import address_of
from mgmtnode.db import green
from mgmtnode.db.engine import open_database
from mgmtnode.db.prepared import OFTEN
from mgmtnode.db.schema import upgrade
from mgmtnode.loader import discover
from mgmtnode.ports import SystemClock, SystemRng
from mgmtnode.ring.slots import SLOTS, SlotOwner, Slots
from mgmtnode.testing.cloud import Cloud
from mgmtnode.testing.flavour import Flavour
from mgmtnode.testing.servers import PostgresServer
from scripts.benchmarks.cluster import Statistics
from scripts.benchmarks.peers.programs.messages import Ask, answer

LIMITS = Path(__file__).with_name("limits.toml")
FIRST = 2 * OFTEN
"""Rounds of each change before it is counted: until then its statements come for the first times, and are counted apart
from those that are prepared."""
ROUNDS = 20
"""Of each change, counted. What happens less often than that is rounded away."""

IDLE_SECONDS = 3.0

GIB = 1 << 30
AT_ONCE = 1000

Counts = dict[str, dict[str, int]]
"""What is done → what is counted → how often for each."""


def limits() -> Counts:
    return tomllib.loads(LIMITS.read_text())


def write(counts: Counts) -> None:
    head = "".join(line + "\n" for line in LIMITS.read_text().splitlines() if line.startswith("#"))
    parts = [
        f'\n["{what}"]\n' + "".join(f'"{name}" = {value}\n' for name, value in found.items())
        for what, found in counts.items()
    ]
    LIMITS.write_text(head + "".join(parts))


class RoundTrips:
    """Of this process with PostgreSQL: each waits for its answer."""

    def __init__(self) -> None:
        self.made = 0
        extensions.set_wait_callback(self._wait)

    def _wait(self, connection: object) -> None:
        self.made += 1
        green.wait(connection)


class Changes:
    """VMs of one node on PostgreSQL, changed one after the other."""

    def __init__(self, cloud: Cloud, database: Statistics) -> None:
        self._cloud, self._database = cloud, database
        cloud.config("host.ping_interval", 3600)
        zone = cloud.create("zones", name="zone")["uuid"]
        where = cloud.create("clusters", name="cluster", zone_uuid=zone, hypervisor="simulator")["uuid"]
        size = {"cpu": 64, "memory": 64 * GIB}
        cloud.create("hosts", name="host", cluster_uuid=where, management_ip="192.0.2.1", parameters=size)
        self._network = cloud.create("l3-networks", name="network", zone_uuid=zone)["uuid"]
        cloud.create("ip-ranges", name="range", l3_network_uuid=self._network, cidr="10.0.0.0/24")
        cloud.config("simulator.delay_ms", 0)
        self._vms: list[str] = []
        self._statements: dict[str, list[tuple[int, str]]] = {}
        self._commits_per_second, self._trips_per_second, self._idle = 0.0, 0.0, set[str]()
        self._trips = RoundTrips()

    def count(self) -> Counts:
        acts: dict[str, Callable[[int], object]] = {
            "vm.create": self._create,
            "vm.stop": lambda number: self._cloud.act("vms", self._vms[number], "stop"),
            "vm.start": lambda number: self._cloud.act("vms", self._vms[number], "start"),
            "vm.get": lambda number: self._cloud.get("vms", self._vms[number]),
            "vm.list": lambda number: self._cloud.list("vms", "state=Running"),
        }
        self._create(0)  # what is done and remembered once
        self._vms.clear()
        self._look_idle()
        return {name: self._counted(name, act) for name, act in acts.items()}

    def __getitem__(self, name: str) -> list[tuple[int, str]]:
        """The statements of one kind of change that was counted: how often each, and its text."""
        return self._statements[name]

    def _create(self, number: int) -> None:
        wanted = {"cpu": 1, "memory": GIB, "l3_network_uuids": [self._network]}
        self._vms.append(self._cloud.create("vms", name=f"vm-{number}", **wanted)["uuid"])

    def _look_idle(self) -> None:
        """What a node does when nobody asks it anything is not the cost of a change."""
        before = self._trips.made
        with self._database.counting() as found:
            time.sleep(IDLE_SECONDS)
        self._commits_per_second = found["commits"] / IDLE_SECONDS
        self._trips_per_second = (self._trips.made - before) / IDLE_SECONDS
        self._idle = {text for _, text in self._database.most_frequent()}

    def _counted(self, name: str, act: Callable[[int], object]) -> dict[str, int]:
        for number in range(FIRST):
            act(number)
        begin, before = time.monotonic(), self._trips.made
        with self._database.counting() as found:
            for number in range(FIRST, FIRST + ROUNDS):
                act(number)
        seconds = time.monotonic() - begin
        trips = self._trips.made - before - self._trips_per_second * seconds
        # One or two may have come before their session had heard that it is counted.
        self._statements[name] = [
            (round(calls / ROUNDS), text)
            for calls, text in self._database.most_frequent()
            if calls >= ROUNDS - 2 and text not in self._idle
        ]
        return {
            "SQL statements": sum(calls for calls, _ in self._statements[name]),
            "commits": round((found["commits"] - self._commits_per_second * seconds) / ROUNDS),
            "round trips to PostgreSQL": round(trips / ROUNDS),
        }


@contextmanager
def changes(directory: Path) -> Iterator[Changes]:
    """On a PostgreSQL server of its own: the extension that counts must be loaded when it starts."""
    with PostgresServer(settings=Statistics.PRELOAD) as postgres:
        url = postgres.create_database("guard")
        db = open_database(url, SystemClock())
        upgrade(db, discover())
        asyncio.run(db.close())
        database = Statistics(url)
        try:
            with Flavour("postgresql", url).cloud(directory) as cloud:
                yield Changes(cloud, database)
        finally:
            database.close()


async def calls() -> Counts:
    """Messages that two nodes exchange for a call, and for many that are made in one turn of the event loop."""
    hub = Hub()
    buses = [_bus(hub, name) for name in "ab"]
    for bus, _ in buses:
        await bus.start()
    found: Counts = {}
    for count in (1, AT_ONCE):
        before = sum(transport.traffic.batches["sent"] for _, transport in buses)
        await asyncio.gather(*(buses[0][0].call(Ask(node="b", text="x" * 100)) for _ in range(count)))
        sent = sum(transport.traffic.batches["sent"] for _, transport in buses) - before
        found[f"{count:,} calls to another node at once" if count > 1 else "a call to another node"] = {
            "messages": sent
        }
    for bus, _ in buses:
        await bus.stop()
    return found


def _bus(hub: Hub, name: str):  # type: ignore[no-untyped-def]  # a Bus and the MemoryTransport below it
    slots = Slots(name)
    slots.replace(dict.fromkeys(range(SLOTS), SlotOwner("a", 1)), 1, {"a": 0, "b": 0})
    transport = hub.transport(address_of(name, 0))
    bus = Bus(name, slots, transport, clock=SystemClock(), rng=SystemRng())
    bus.handle(Ask, answer)
    return bus, transport


def run(*, record: bool = False, show: str = "") -> int:
    """Prints what is counted beside the limits; returns how many are exceeded. ``record``: they become the limits.
    ``show``: the change whose statements are printed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, changes(Path(directory)) as counting:
        found = counting.count()
        for calls_of, text in counting[show] if show else ():
            print(f"{calls_of:4} {text}")
    found |= asyncio.run(calls())
    known = limits()
    exceeded = 0
    for what, counted in found.items():
        for name, value in counted.items():
            limit = known.get(what, {}).get(name)
            exceeded += limit is not None and value > limit
            print(f"{what}: {value} {name}, limit {limit}")
    if record:
        write(found)
    return 0 if record else exceeded
