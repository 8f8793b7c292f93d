"""The same stored operations, one after the other, on PostgreSQL and on SQLite: what the simulation stands on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from sqlalchemy.exc import DBAPIError

from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.memory import MemoryDatabase
from mgmtnode.db.session import Database, Tx, TxHooks
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.errors import ApiError
from mgmtnode.jobs.claim import Outcome
from mgmtnode.jobs.job import Job
from mgmtnode.jobs.repository import Fenced
from mgmtnode.ring.slots import Slots
from tests.interleavings.operations import FENCED, Operation
from tests.interleavings.scene import NODES, Held, Node, Scene, StillClock
from tests.interleavings.stage import StagedDatabase

T = TypeVar("T")
# A refused insert leaves a gap on PostgreSQL; the order says the same on both. And each has an origin of its own.
DRAWN = {"seq", "xid", "logged_xid", "mn_cluster.origin"}


class MemoryPort(Database):
    """The simulation's database for one node."""

    def __init__(self, server: MemoryDatabase, clock: StillClock) -> None:
        self.hooks: TxHooks | None = None
        self.engine = server.engine
        self._server, self._clock = server, clock

    @property
    def dialect(self) -> str:
        return self._server.dialect

    async def write(self, work: Callable[[Tx], T]) -> T:
        return self._server.transact(work, self._clock.now(), self.hooks)[0]

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self.write(work)

    async def close(self) -> None:
        """It goes with the process."""


class Twin(Scene):
    """One of the two worlds. ``ports`` gives each node its database; ``wipe`` empties what is below."""

    def __init__(self, clock: StillClock, ports: Callable[[], Database], wipe: Callable[[], None]) -> None:
        self.clock, self._wipe = clock, wipe
        self.nodes = {name: Node(name, ports(), clock) for name in NODES}
        self.jobs, self.held, self.marks, self._views, self._drawn = {}, {}, {}, {}, 0

    def begin(self) -> None:
        """Two nodes join an empty cluster."""
        self._wipe()
        self.jobs.clear(), self.held.clear(), self.marks.clear()
        self._drawn = 0
        for name, node in self.nodes.items():
            node.rng._random.seed(ord(name))
            node.slots._view = Slots(name)._view
        self.found()
        self.look()

    def look(self) -> None:
        """Every node reads who owns what."""
        for node in self.nodes.values():
            asyncio.run(node.membership.refresh())

    def ask(self, operation: Operation) -> Any:
        """What is answered, in a form that can be compared."""

        async def asking() -> Any:
            try:
                return await operation(self)
            except ApiError as error:
                return error.code
            except Fenced:
                return FENCED
            except DBAPIError:
                return "refused by the database"
            except AssertionError:
                return "the pool is full"  # how a gadget's flow says so

        return plain(asyncio.run(asking()))

    def claim(self, name: str, job: str) -> Operation:
        """Keeps what was claimed, to go on with."""

        async def claiming(scene: Scene) -> str:
            runner, row = self.nodes[name].runner, self.jobs[job]
            outcome: Outcome = await runner._claim(row.uuid, row.resource_uuid, runner._begin)
            if outcome.claimed is not None and outcome.claimed.run is not None:
                self.held[job] = Held(name, outcome.claimed, outcome.claimed.run.first_step)
            return outcome.verdict.value

        return claiming

    def tables(self) -> dict[str, list[str]]:  # type: ignore[override]
        """All rows; of each table in an order that both databases have."""

        def read(tx: Tx) -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for table in CORE_TABLES:
                ordered = table.select().order_by(*(table.c[c] for c in ("seq",) if c in table.c))
                rows = [row._mapping for row in tx.execute(ordered)]
                kept = [c.name for c in table.columns if not DRAWN & {c.name, f"{table.name}.{c.name}"}]
                texts = [str({k: str(plain(row[k])) for k in kept}) for row in rows]
                found[table.name] = texts if "seq" in table.c else sorted(texts)
            return found

        return asyncio.run(self.nodes["a"].db.write(read))


def plain(answer: Any) -> Any:
    """Without what is drawn from a sequence."""
    if isinstance(answer, Job | msgspec.Struct):
        return msgspec.to_builtins(answer)
    if isinstance(answer, list | tuple):
        return [plain(part) for part in answer]
    return answer


def on_sqlite() -> Twin:
    clock, server = StillClock(), MemoryDatabase()
    metadata.create_all(server.engine, tables=CORE_TABLES)
    empty = server.save()
    return Twin(clock, lambda: MemoryPort(server, clock), lambda: server.restore(empty))


def on_postgresql(url: str) -> Twin:
    clock = StillClock()
    plain_ = open_database(url, clock)
    plain_.run(lambda tx: metadata.create_all(tx.connection, tables=CORE_TABLES))
    names = ", ".join(table.name for table in CORE_TABLES)

    def port() -> Database:
        return StagedDatabase(plain_._writer, plain_._reader, clock)

    def wipe() -> None:
        with plain_.engine.begin() as connection:
            connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")

    return Twin(clock, port, wipe)
