"""Nodes without an edge, on virtual time and a real database, that can be killed at every boundary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import func, select

from mgmtnode.agents.local import LocalAgents
from mgmtnode.bus.bus import Bus
from mgmtnode.bus.memory import Hub
from mgmtnode.bus.message import ApiJob
from mgmtnode.cluster.heart import NoHeart
from mgmtnode.cluster.lease import Lease
from mgmtnode.cluster.membership import Membership
from mgmtnode.cluster.records import Identity
from mgmtnode.config.file import Properties
from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import Database, SqlDatabase, Tx
from mgmtnode.db.tables import CORE_TABLES, allocation, claim, cleanup_debt, event_log, job, resource
from mgmtnode.db.workers import tell
from mgmtnode.errors import DATABASE_DOWN, DATABASE_SLOW
from mgmtnode.jobs import ledger
from mgmtnode.jobs.job import Caller, Job
from mgmtnode.jobs.jobs import Jobs
from mgmtnode.jobs.start import start_runner
from mgmtnode.parts import Edges, Parts, assemble
from mgmtnode.ports import UuidSource
from mgmtnode.ring.slots import Slots
from mgmtnode.service import ServiceManifest
from tests.virtual_time import LoopClock, SeededRng
from tests.workshop.bench import HOST, POOL, UNITS, Bench, Deed, Host
from tests.workshop.service import GadgetService, manifest

T = TypeVar("T")
PATIENCE = 600.0
ME = Caller(account_uuid="0190cccc-0000-7000-8000-000000000001", account_name="acme")


class InlineDatabase(Database):
    """The real SQL in the thread of the loop, so that time stands still meanwhile; each write is a boundary.

    ``lose``: the write with this number is committed but answered as if the database had gone; ``refuse``: it is
    undone at its COMMIT. While it is ``slow``, each is told to stop.
    """

    def __init__(self, inner: SqlDatabase, core: Core) -> None:
        self.inner, self._core = inner, core
        self.commits = self.writes = 0
        self.lose: set[int] = set()
        self.refuse: set[int] = set()
        self.down = self.slow = False

    @property
    def hooks(self) -> Any:
        return self.inner.hooks

    @hooks.setter
    def hooks(self, hooks: Any) -> None:
        self.inner.hooks = hooks

    @property
    def dialect(self) -> str:
        return self.inner.dialect

    async def write(self, work: Callable[[Tx], T]) -> T:
        await self._core.boundary("before commit")
        self._reach()
        self.writes += 1
        result, committed = self.inner._attempts(self.inner.engine, self._refusing(work))
        self.commits += 1
        await self._core.boundary("after commit")
        tell(committed)
        if self.writes in self.lose:
            raise DATABASE_DOWN.error("the reply was lost")
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        await asyncio.sleep(0)
        await self._core.alive()
        self._reach()
        return self.inner._attempts(self.inner.engine, work)[0]

    async def close(self) -> None:
        await self.inner.close()

    def _refusing(self, work: Callable[[Tx], T]) -> Callable[[Tx], T]:
        if self.writes not in self.refuse and not self.slow:
            return work

        def undone(tx: Tx) -> T:
            work(tx)
            if self.slow:
                raise DATABASE_SLOW.error("it took too long")
            raise DATABASE_DOWN.error("it went away before the COMMIT")

        return undone

    def _reach(self) -> None:
        if self.down:
            raise DATABASE_DOWN.error("cut off")


class Core:
    """One life of a node: everything but the API. ``kill_at``: the number of the boundary at which it dies."""

    def __init__(self, world: World, kill_at: int | None) -> None:
        self.world, self.kill_at = world, kill_at
        self.boundaries: list[str] = []
        self.died = asyncio.Event()
        self.db = InlineDatabase(world.database, self)
        self.bench = Bench(self, world.host, world.deeds)
        self.parts: Parts
        self.bus: Bus
        self._booting = True

    async def boundary(self, what: str) -> None:
        """A place where the node may die: nothing of it happens after."""
        await self.alive()
        if self._booting:
            return
        self.boundaries.append(what)
        if self.kill_at is not None and len(self.boundaries) > self.kill_at:
            self.died.set()
            await self.alive()

    async def alive(self) -> None:
        if self.died.is_set():
            await asyncio.get_running_loop().create_future()

    @property
    def jobs(self) -> Jobs:
        return self.parts.context.jobs

    async def boot(self, manifests: list[ServiceManifest]) -> None:
        clock, rng = LoopClock(), SeededRng(self.world.lives)
        slots = Slots("n")
        lease = Lease(clock, forever=True)
        membership = Membership(
            Identity("n", "n", "1", "n"), self.db, slots,
            heart=NoHeart(), lease=lease, clock=clock, uuids=UuidSource(clock, rng),
        )  # fmt: skip
        await membership.register()
        self.bus = Bus("n", slots, Hub().transport(f"n.{membership.incarnation}"), clock=clock, rng=rng)
        edges = Edges(
            name="n", membership=membership, clock=clock, rng=rng, db=self.db, bus=self.bus,
            slots=slots, agents=LocalAgents(), properties=Properties(environ={}),
        )  # fmt: skip
        self.parts = assemble(manifests, edges)
        for _, service in self.parts.services:
            if isinstance(service, GadgetService):
                service.bench = self.bench
        context = self.parts.context
        await context.config.load(self.db)
        self.bus.on_hint(self.jobs.hinted)
        await self.bus.start()
        start_runner(
            self.jobs, self.db, clock=clock, config=context.config, tags=context.tags, specs=self.parts.specs,
            repository=self.parts.repository, node="n", incarnation=membership.incarnation, gate=lease.gate,
        )  # fmt: skip
        await membership.enter()
        self.db.commits = self.db.writes = 0
        self._booting = False
        context.periodic.every("jobs.sweep", 2.0, self.jobs.sweep, at_once=True)

    async def stop(self, drain: float = 0.0) -> None:
        """In good order."""
        await self.parts.context.periodic.stop()
        assert self.jobs.runner is not None
        await self.jobs.runner.drain(drain)
        await self.bus.stop()

    async def accept(self, msg: ApiJob[Any], **options: Any) -> Job:
        return await self.jobs.accept(msg, options.pop("caller", ME), **options)

    async def run(self, msg: ApiJob[Any], **options: Any) -> Job:
        return await self.end(await self.accept(msg, **options))

    async def end(self, job: Job) -> Job:
        async with asyncio.timeout(PATIENCE):
            while not job.ended:
                job = await self.jobs.wait(job.uuid, 60)
        return job


class World:
    """What outlives the nodes: the database and the host."""

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.host = Host()
        self.deeds: dict[str, Deed] = {}
        self.lives = 0

    async def boot(self, kill_at: int | None = None) -> Core:
        self.lives += 1
        core = Core(self, kill_at)
        await core.boot([manifest])
        return core

    @asynccontextmanager
    async def life(self, kill_at: int | None = None) -> AsyncIterator[Core]:
        """A node that dies, if not by ``kill_at`` then at the end, without any manners."""
        before = asyncio.all_tasks()
        core = await self.boot(kill_at)
        try:
            yield core
        finally:
            core.died.set()
            left = asyncio.all_tasks() - before
            for task in left:
                task.cancel()
            if left:
                _, stubborn = await asyncio.wait(left, timeout=30)
                assert not stubborn, stubborn

    def set_pool(self, limit: int) -> None:
        self.database.run(lambda tx: ledger.set_pool(tx, POOL, UNITS, limit))

    def ask(self, statement: Any) -> list[Any]:
        return self.database.run(lambda tx: list(tx.execute(statement).all()))

    @property
    def used(self) -> int:
        return self.database.run(lambda tx: ledger.usage(tx, POOL, UNITS))[0]

    @property
    def gadgets(self) -> set[str]:
        return {str(r[0]) for r in self.ask(select(resource.c.uuid).where(resource.c.type == "gadget"))}

    @property
    def claims(self) -> list[Any]:
        return self.ask(select(claim.c.resource_uuid))

    @property
    def debts(self) -> list[Any]:
        return self.ask(select(cleanup_debt.c.host_uuid, cleanup_debt.c.resource_uuid))

    @property
    def allocations(self) -> list[str]:
        return [str(r[0]) for r in self.ask(select(allocation.c.state))]

    def row(self, uuid: str) -> Any:
        return self.ask(select(job).where(job.c.uuid == uuid))[0]

    def ends(self, uuid: str) -> int:
        return int(self.ask(select(func.count()).where(event_log.c.resource_uuid == uuid))[0][0])

    def events(self, uuid: str) -> list[tuple[int, str]]:
        of = select(event_log.c.revision, event_log.c.name).where(event_log.c.resource_uuid == uuid)
        return [(int(r[0]), str(r[1])) for r in self.ask(of.order_by(event_log.c.revision))]

    def check_quiet(self) -> None:
        """What must hold once every job has ended."""
        states = {str(r[0]) for r in self.ask(select(job.c.state))}
        assert states <= {"Succeeded", "Failed", "Cancelled"}
        assert not self.claims
        for register in self.host.registers.values():
            orders = [order for order, _ in register.log]
            assert orders == sorted(set(orders)), "a command was done twice or out of order"
        for (uuid,) in self.ask(select(job.c.uuid)):
            assert self.ends(uuid) == 1, "a job ends exactly once"
        held = self.ask(
            select(func.coalesce(func.sum(allocation.c.amount), 0)).where(allocation.c.pool_uuid == POOL)
        )
        assert self.used == held[0][0]


def open_world(url: str) -> World:
    """On an empty database."""
    database = open_database(url, _Fixed())
    database.run(lambda tx: metadata.create_all(tx.connection, tables=CORE_TABLES))
    world = World(database)
    world.set_pool(100)
    return world


class _Fixed:
    """The clock of what the test itself asks; jobs live by the clock of the loop."""

    def now(self) -> datetime:
        try:
            return LoopClock().now()
        except RuntimeError:
            return datetime.fromisoformat("2026-01-01T00:00:00+00:00")

    def monotonic(self) -> float:
        return LoopClock().monotonic()


__all__ = ["HOST", "ME", "Core", "World", "open_world"]
