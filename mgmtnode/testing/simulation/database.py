"""One SQLite database in memory for all nodes of a world, behind the Database port.

A transaction runs in one go: others come before it or after it, never between two of its statements. (Those
interleavings are tested on a real PostgreSQL.) Everything around it is as bad as it gets: it may not arrive, its
COMMIT may be answered to nobody, the database may be away, break off, take too long, or run it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from mgmtnode.db.memory import MemoryDatabase
from mgmtnode.db.session import Tx, TxHooks
from mgmtnode.db.workers import tell
from mgmtnode.errors import DATABASE_DOWN, DATABASE_SLOW, ApiError
from mgmtnode.ports import Clock
from mgmtnode.testing.simulation.lines import Line, Weather
from mgmtnode.testing.simulation.loop import VirtualLoop

T = TypeVar("T")
Work = Callable[[Tx], Any]
Audit = Callable[[str, tuple[Any, ...]], None]
Ended = Callable[[str, bool], None]

HANGS = 6.0  # seconds until a client of a database that went silent finds out
REFUSED = 0.05
AUDIT = "simulation_audit"  # the SQL function that triggers call: (kind, what it is about…)
OWNER = "(SELECT owner || '#' || incarnation FROM ring_slot WHERE slot = NEW.slot)"

TRIGGERS = (
    f"""CREATE TRIGGER simulation_accepted AFTER INSERT ON job BEGIN
        SELECT {AUDIT}('accepted', NEW.uuid, NEW.resource_uuid, NEW.api, NEW.seq, NEW.account_uuid); END""",
    f"""CREATE TRIGGER simulation_moved AFTER UPDATE OF state ON job WHEN NEW.state <> OLD.state BEGIN
        SELECT {AUDIT}('moved', NEW.uuid, NEW.resource_uuid, NEW.api, NEW.seq, OLD.state, NEW.state, NEW.fence,
        {OWNER}); END""",
    f"""CREATE TRIGGER simulation_wrote AFTER UPDATE OF state, step_no, journal, steps ON job
        WHEN OLD.state <> 'Pending' BEGIN
        SELECT {AUDIT}('wrote', NEW.uuid, NEW.fence, (SELECT epoch FROM ring_slot WHERE slot = NEW.slot), {OWNER});
        END""",
    f"""CREATE TRIGGER simulation_gave AFTER UPDATE OF owner ON ring_slot
        WHEN OLD.owner IS NOT NULL AND NEW.owner IS NOT OLD.owner BEGIN
        SELECT {AUDIT}('gave', NEW.slot, OLD.owner, NEW.owner); END""",
    f"""CREATE TRIGGER simulation_owed AFTER INSERT ON cleanup_debt BEGIN
        SELECT {AUDIT}('owed', NEW.host_uuid, NEW.resource_uuid, NEW.reason); END""",
    f"""CREATE TRIGGER simulation_paid AFTER DELETE ON cleanup_debt BEGIN
        SELECT {AUDIT}('paid', OLD.host_uuid, OLD.resource_uuid); END""",
    f"""CREATE TRIGGER simulation_slot AFTER UPDATE ON ring_slot
        WHEN NEW.epoch < OLD.epoch OR NEW.epoch = OLD.epoch
         AND (NEW.owner IS NOT OLD.owner OR NEW.incarnation IS NOT OLD.incarnation) BEGIN
        SELECT {AUDIT}('slot', NEW.slot, OLD.owner, OLD.epoch, NEW.owner, NEW.epoch); END""",
)  # fmt: skip


class DatabaseServer(MemoryDatabase):
    """The database itself, one a process. ``audit(writer, fact)`` hears each fact of a transaction once it is
    committed; ``writer`` is the incarnation that wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self._facts: list[tuple[Any, ...]] = []
        self.audit: Audit = lambda writer, fact: None

    def install_audit(self) -> None:
        """Adds the triggers, to a database that has its schema."""
        self.function(AUDIT, lambda *fact: self._facts.append(fact))
        for trigger in TRIGGERS:
            self.script(trigger)

    def run(self, work: Callable[[Tx], T], clock: Clock, hooks: TxHooks | None, writer: str) -> tuple[T, Tx]:
        self._facts.clear()
        done = self.transact(work, clock.now(), hooks)
        for fact in self._facts:
            self.audit(writer, fact)
        return done

    def undo(self, work: Callable[[Tx], Any], clock: Clock, hooks: TxHooks | None) -> None:
        """Runs ``work`` and rolls it back. Raises what it raises."""

        def in_vain(tx: Tx) -> None:
            work(tx)
            raise Undone

        with suppress(Undone):
            self.transact(in_vain, clock.now(), hooks)


class Undone(Exception):
    """Rolls a transaction back that did nothing wrong."""


class Request:
    """One transaction on its way."""

    __slots__ = ("future", "work")

    def __init__(self, work: Work, future: asyncio.Future[Any]) -> None:
        self.work, self.future = work, future


class SimulatedDatabase:
    """The Database port of one node. ``ended(name, answered)`` hears of each transaction that was committed; ``writer``
    is set once the node knows its incarnation, as ``name#incarnation``."""

    def __init__(
        self, server: DatabaseServer, loop: VirtualLoop, line: Line, clock: Clock, ended: Ended
    ) -> None:
        self.hooks: TxHooks | None = None
        self._server, self._loop, self._line, self._clock = server, loop, line, clock
        self._ended = ended
        self.writer = ""

    @property
    def dialect(self) -> str:
        return self._server.dialect

    @property
    def engine(self) -> Any:
        return self._server.engine

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await self._transact(work)

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._transact(work)

    async def close(self) -> None:
        """Nothing is open."""

    async def _transact(self, work: Callable[[Tx], T]) -> T:
        request = Request(work, self._loop.stubborn_future())  # see db.session.to_its_end
        way = self._line.there()
        if self._line.strikes(Weather.REFUSED):
            self._loop.call_later(REFUSED, self._fail, request)
        elif way is None:
            self._loop.call_later(HANGS, self._fail, request)
        else:
            self._under_way(way, self._run, request)
        return await request.future  # type: ignore[no-any-return]

    def _run(self, request: Request) -> None:
        done: Any
        settle: Callable[[Any], None]
        committed: list[Callable[[], None]] = []
        try:
            self._before_commit(request.work)
            done, tx = self._server.run(request.work, self._clock, self.hooks, self.writer)
            settle, committed = request.future.set_result, tx.committed
        except Exception as exc:
            done, settle = exc, request.future.set_exception
        way = self._line.back()
        self._ended(getattr(request.work, "__qualname__", "?"), way is not None)
        if way is None:
            self._loop.call_later(HANGS, self._fail, request)
        else:
            self._under_way(way, _answer, settle, done, committed)

    def _under_way(self, seconds: float, arrive: Callable[..., None], *what: Any) -> None:
        self._line.busy_until = max(self._line.busy_until, self._loop.time() + seconds)
        self._loop.call_later(seconds, arrive, *what)

    def _before_commit(self, work: Work) -> None:
        """What may happen to a transaction when it has done all but that. Raises what the caller is told."""
        line = self._line
        if not line.spells:
            return
        told: ApiError | None = None
        if line.strikes(Weather.BROKEN):
            told = DATABASE_DOWN.error("the connection to the database broke", retry_after=1.0)
        elif line.strikes(Weather.STOPS):
            told = DATABASE_SLOW.error("the database took too long and was told to stop", retry_after=1.0)
        elif not line.strikes(Weather.COLLIDES):
            return
        self._server.undo(work, self._clock, self.hooks)
        if told is not None:
            raise told

    def _fail(self, request: Request) -> None:
        request.future.set_exception(DATABASE_DOWN.error("the database does not answer", retry_after=1.0))


def _answer(settle: Callable[[Any], None], done: Any, committed: list[Callable[[], None]]) -> None:
    tell(committed)
    settle(done)
