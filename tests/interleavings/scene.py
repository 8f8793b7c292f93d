"""A small world for sessions to meet in: three nodes on four slots, some jobs, a pool, on one PostgreSQL database.

It is made once, by the product's own functions, and put back before each order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from unittest import mock

import msgspec
from sqlalchemy import Connection, text

from mgmtnode.agents.local import LocalAgents
from mgmtnode.bus.bus import Bus
from mgmtnode.bus.memory import Hub
from mgmtnode.bus.message import ApiJob, Event, Message
from mgmtnode.cluster import repository as cluster
from mgmtnode.cluster.heart import NoHeart
from mgmtnode.cluster.lease import Lease
from mgmtnode.cluster.membership import Membership
from mgmtnode.cluster.rebalance import Rebalancer
from mgmtnode.cluster.records import Identity, LeaseRow, NodeState
from mgmtnode.config.file import Properties
from mgmtnode.db import resource
from mgmtnode.db.session import Database, SqlDatabase, Tx
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.jobs import ledger
from mgmtnode.jobs.claim import Claimed
from mgmtnode.jobs.job import Caller, Job
from mgmtnode.jobs.jobs import Jobs
from mgmtnode.jobs.runner import Runner
from mgmtnode.jobs.start import start_runner
from mgmtnode.parts import Edges, Parts, assemble
from mgmtnode.ports import UuidSource
from mgmtnode.ring import slots
from mgmtnode.ring.slots import Slots, slot_of
from mgmtnode.workflow.engine import FlowRun
from tests.interleavings.stage import Stage
from tests.virtual_time import SeededRng
from tests.workshop.bench import POOL, UNITS
from tests.workshop.contract import GADGET
from tests.workshop.service import GadgetService, manifest

T = TypeVar("T")

SLOTS = 4
ME = Caller(account_uuid="0190cccc-0000-7000-8000-000000000001", account_name="acme")
START = datetime(2026, 1, 1, tzinfo=UTC)
NODES = ("a", "b", "c")
UNITS_LEFT = 1


class StillClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class SilentBus(Bus):
    """Nobody is told anything: what must hold, holds without messages."""

    def publish(self, event: Event) -> None:
        pass

    def hint(self, seq: int, job_uuid: str, resource_uuid: str) -> None:
        pass

    def send(self, msg: Message[Any]) -> None:
        pass


class IdleHost:
    """Does every command at once; what is looked at here is what happens in the database."""

    def now(self, place: str) -> None:
        pass

    async def at(self, place: str) -> None:
        pass

    async def command(self, work: Any, action: str) -> None:
        pass

    async def seal(self, resource: str, fence: int) -> None:
        return None


@contextmanager
def small_ring() -> Iterator[None]:
    """Four slots that go round: small enough to be read, and no step of the protocol depends on how many there are."""

    def propose(nodes: Iterable[str]) -> list[str]:
        names = sorted(nodes)
        return [names[slot % len(names)] for slot in range(SLOTS)]

    with (
        mock.patch.object(slots, "SLOTS", SLOTS),
        mock.patch.object(cluster, "SLOTS", SLOTS),
        mock.patch.object(cluster, "propose", propose),
    ):
        slots.slot_of.cache_clear()
        yield
    slots.slot_of.cache_clear()


class Node:
    """One node: what lives as long as its process, and what is made anew for each order. ``label``: of its database
    connections; where it is empty, nobody can end them. ``newest``: the membership of its last life, which may be
    younger than ``membership``, the one that acts."""

    def __init__(self, name: str, db: Database, clock: StillClock, label: str = "") -> None:
        self.name, self.db, self.clock, self.label = name, db, clock, label
        self.slots = Slots(name)
        rng = self.rng = SeededRng(ord(name))
        self._uuids = UuidSource(clock, rng)
        self.membership = self.newest = self.member()
        bus = SilentBus(name, self.slots, Hub().transport(f"{name}.1"), clock=clock, rng=rng)
        edges = Edges(
            name=name, membership=self.membership, clock=clock, rng=rng, db=db, bus=bus, slots=self.slots,
            agents=LocalAgents(), properties=Properties(environ={}),
        )  # fmt: skip
        self.parts: Parts = assemble([manifest], edges)
        for _, service in self.parts.services:
            if isinstance(service, GadgetService):
                service.bench = IdleHost()  # type: ignore[assignment]
        self.runner: Runner
        self.rebalancer: Rebalancer

    @property
    def jobs(self) -> Jobs:
        return self.parts.context.jobs

    def member(self) -> Membership:
        """A membership that has not registered."""
        return Membership(
            Identity(self.name, f"{self.name}:8080", "1", self.label), self.db, self.slots,
            heart=NoHeart(), lease=Lease(self.clock, forever=True), clock=self.clock, uuids=self._uuids,
        )  # fmt: skip

    def wake(self, incarnation: int, state: NodeState = NodeState.UP) -> None:
        """As a node is that has been in the cluster for a while."""
        self.membership = self.newest = self.member()
        self.membership.incarnation, self.membership.state = incarnation, state
        context = self.parts.context
        self.runner = start_runner(
            self.jobs, self.db, clock=self.clock, config=context.config, tags=context.tags,
            specs=self.parts.specs, repository=self.parts.repository, node=self.name, incarnation=incarnation,
            gate=self.membership.lease.gate,
        )  # fmt: skip
        self.jobs.runner = None  # what it accepts waits until somebody claims it
        self.rebalancer = Rebalancer(
            self.db, self.slots, self.membership, self.runner, self.parts.repository, self.clock, batch=SLOTS
        )  # fmt: skip


@dataclass
class Held:
    """A job that a node has claimed before the order begins, and its next step."""

    node: str
    claimed: Claimed
    step: int


class Scene:
    """Nodes ``a`` and ``b`` are up, ``c`` is not there; slots 0 and 2 are a's. ``jobs``, ``held`` and ``marks`` go by
    the names that ``prepare`` of a scenario gives them."""

    def __init__(self, stage: Stage, tables: Tables, clock: StillClock) -> None:
        self.stage, self.tables, self.clock = stage, tables, clock
        self.nodes = {name: Node(name, stage.open(f"mn/{name}/00"), self.clock) for name in NODES}
        self.jobs: dict[str, Job] = {}
        self.held: dict[str, Held] = {}
        self.marks: dict[str, Any] = {}
        self._views: dict[str, Any] = {}
        self._drawn = 0
        self.wake()

    # making it

    def found(self) -> None:
        """Two nodes join, by themselves."""
        for name in ("a", "b"):
            node = self.nodes[name]
            node.membership = node.member()
            asyncio.run(node.membership.register())
            asyncio.run(node.membership.enter())
            for other in ("a", "b"):
                if self.nodes[other].membership.incarnation:
                    asyncio.run(self._move_all(self.nodes[other]))
        self.wake()

    async def _move_all(self, node: Node) -> None:
        def move(tx: Tx) -> None:
            cluster.lock(tx)
            moves = cluster.moving(tx, node.name, node.membership.incarnation, range(SLOTS))
            if moves:
                cluster.move(tx, moves)

        await node.db.write(move)

    def do(self, name: str, work: Callable[[Node], Awaitable[T]]) -> T:
        """What a node does before the order begins."""
        return asyncio.run(_whole(work, self.nodes[name]))

    def uuid(self, slot: int = 0) -> str:
        """The next one in this slot."""
        while True:
            self._drawn += 1
            uuid = f"0190eeee-0000-7000-8000-{self._drawn:012d}"
            if slot_of(uuid) == slot:
                return uuid

    def gadget(self, slot: int = 0) -> str:
        uuid = self.uuid(slot)
        self.do("a", lambda node: node.db.write(
            lambda tx: resource.create(tx, GADGET, uuid, uuid, account=ME.account_uuid)
        ))  # fmt: skip
        return uuid

    def accepted(self, name: str, msg: ApiJob[Any], **options: Any) -> Job:
        """A job that waits."""
        job = self.jobs[name] = self.do("a", lambda node: node.jobs.accept(msg, ME, **options))
        return job

    def running(self, name: str, msg: ApiJob[Any], node: str = "a", **options: Any) -> Job:
        """A job that a node has claimed."""
        job = self.accepted(name, msg, **options)
        begun = self.do(node, lambda n: n.runner._claim(job.uuid, job.resource_uuid, n.runner._begin))
        assert begun.claimed is not None and begun.claimed.run is not None
        self.held[name] = Held(node, begun.claimed, begun.claimed.run.first_step)
        return job

    def pool(self, limit: int) -> None:
        self.do("a", lambda node: node.db.write(lambda tx: ledger.set_pool(tx, POOL, UNITS, limit)))

    def lease(self, name: str) -> LeaseRow:
        """As another node sees it."""
        look = self.do("b", lambda node: node.db.read(lambda tx: cluster.look(tx.execute, tx.dialect)))
        return next(lease for lease in look.leases if lease.name == name)

    # putting it back

    def begin_anew(self) -> None:
        """The tables are as they were when the nodes had joined."""
        for session in self.stage.sessions:
            session.written.clear()
        self._views.clear()
        for name, node in self.nodes.items():
            node.slots._view = Slots(name)._view
        self.wake()

    def keep(self) -> None:
        """This is how each order begins."""
        for name, node in self.nodes.items():
            node.membership = node.member()
            asyncio.run(node.membership.refresh())
            self._views[name] = node.slots._view
        self.tables.save("saved")

    def wake(self) -> None:
        for name, node in self.nodes.items():
            node.wake(1)
            if name in self._views:
                node.slots._view = self._views[name]

    def put_back(self) -> None:
        written = set[str]().union(*(session.written for session in self.stage.sessions))
        for session in self.stage.sessions:
            session.written.clear()
        self.tables.restore("saved", written)
        self.wake()

    def run(self, name: str) -> FlowRun:
        """The run of a held job, at its next step."""
        held = self.held[name]
        old = held.claimed
        context = msgspec.json.decode(msgspec.json.encode(old.context), type=old.spec.context)
        claimed = replace(old, row=msgspec.structs.replace(old.row), context=context, run=None)
        run = FlowRun(self.nodes[held.node].runner._parts, claimed)
        run._index = held.step
        assert old.run is not None
        run.live.records = list(old.run.live.records)
        return run


async def _whole(work: Callable[[Node], Awaitable[T]], node: Node) -> T:
    return await work(node)


class Tables:
    """The rows of all tables, kept in schemas beside them."""

    def __init__(self, db: SqlDatabase, *schemas: str) -> None:
        self._connection: Connection = db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._names = [table.name for table in CORE_TABLES]
        self._reset = 0
        self.do("SET session_replication_role = replica")
        for schema in schemas:
            self.do(f"CREATE SCHEMA {schema}")
            for name in self._names:
                self.do(f"CREATE TABLE {schema}.{name} (LIKE public.{name})")

    def do(self, sql: str) -> None:
        """Any number of statements."""
        with self._connection.connection.cursor() as cursor:
            cursor.execute(sql)

    def rows(self, sql: str, **values: Any) -> list[Any]:
        return list(self._connection.execute(text(sql), values).all())

    def save(self, schema: str) -> None:
        parts = [
            f"TRUNCATE {schema}.{n}; INSERT INTO {schema}.{n} SELECT * FROM public.{n}" for n in self._names
        ]
        self.do("; ".join(parts))

    def restore(self, schema: str, names: Iterable[str] | None = None) -> None:
        """All, or those that were written."""
        wanted = set(self._names if names is None else names).intersection(self._names)
        fill = "INSERT INTO public.{0} OVERRIDING SYSTEM VALUE SELECT * FROM {1}.{0}"
        parts = [f"DELETE FROM public.{n}; {fill.format(n, schema)}" for n in sorted(wanted)]
        self.do("; ".join([*parts, "DELETE FROM audit"]))
        self._reset += 1
        if self._reset % 100 == 0:
            self.do("VACUUM")

    def digest(self) -> str:
        """What is in the tables, but for the numbers of transactions and those that are drawn from sequences."""
        kept: list[str] = []
        for table in CORE_TABLES:
            columns = ", ".join(
                f'"{c.name}"' for c in table.columns if c.name not in ("seq", "xid", "logged_xid")
            )
            kept.append(f"{table.name}: {sorted(map(str, self.rows(f'SELECT {columns} FROM {table.name}')))}")
        return "\n".join(kept)

    def close(self) -> None:
        self._connection.close()
