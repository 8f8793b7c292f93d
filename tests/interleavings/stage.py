"""Sessions on a real PostgreSQL that move one statement at a time, in the order that the test says.

Each session is a thread with connections of its own that runs the product's functions. Before each statement, COMMIT
and ROLLBACK it stops and says what it is about to do; it goes on when it is told. One that waits for a lock is set
aside, and is back as soon as the database lets it go on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event, text

from mgmtnode.db.engine import open_database
from mgmtnode.db.generation import LOOKED
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.ports import Clock
from tests.interleavings.accesses import Access, in_the_log, of_end, of_statement

T = TypeVar("T")

LOOK_SECONDS = 0.002  # a session that has not come to its next statement by then may be waiting for a lock
STUCK_SECONDS = 20.0
DEADLOCK_SETTING = "SET deadlock_timeout = '20ms'"  # nobody wants to wait a second to find one


class Place(Enum):
    AT_GATE = "at a gate"
    RUNNING = "running"
    WAITING = "waiting for a lock"
    OVER = "over"


class Abandoned(BaseException):
    """The order is of no interest any more: undo everything, quickly."""


class Stuck(Exception):
    """A session neither goes on nor waits for a lock."""


class StagedDatabase(SqlDatabase):
    """The product's database, whose transactions run in the thread of who asks; what it puts off until after the
    commit is dropped, since nobody listens."""

    async def _write(self, work: Callable[[Tx], T]) -> T:
        return self._attempts(self._writer, work)[0]

    async def _read(self, work: Callable[[Tx], T]) -> T:
        return self._attempts(self._reader, work)[0]


@dataclass
class Session:
    """One of those who act. ``pending``: what it does next; ``outcome``: what its work returned or raised."""

    number: int
    stage: Stage
    place: Place = Place.OVER
    pending: Access | None = None
    outcome: Any = None
    pid: int = 0
    locked: frozenset[str] = frozenset()
    written: set[str] = field(default_factory=set)
    _go: bool = False
    _thread: threading.Thread | None = None
    _work: Callable[[], Awaitable[Any]] | None = None

    def gate(self, access: Access) -> None:
        """In its own thread: stops until it may take this step."""
        stage = self.stage
        with stage.turn:
            if stage.abandoned:
                if access.ends:
                    return
                raise Abandoned
            self.pending, self.place = access, Place.AT_GATE
            stage.turn.notify_all()
            while not self._go:
                stage.turn.wait()
            self._go = False
            if stage.abandoned and not access.ends:
                raise Abandoned

    def release(self) -> None:
        """Lets it take its step. The stage holds ``turn``."""
        self.place, self._go = Place.RUNNING, True

    def begin(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._work, self.outcome, self.locked, self._go = work, None, frozenset(), False
        self.place, self.pending = Place.RUNNING, None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"session {self.number}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        stage = self.stage
        stage.here.session = self
        loop = asyncio.new_event_loop()
        while True:
            with stage.turn:
                while self._work is None and not stage.closed:
                    stage.turn.wait()
                work, self._work = self._work, None
            if work is None:
                loop.close()
                return
            try:
                outcome = loop.run_until_complete(_whole(work))
            except BaseException as exc:
                outcome = exc
            with stage.turn:
                self.outcome, self.place = outcome, Place.OVER
                stage.turn.notify_all()


def _running(playing: list[Session]) -> list[Session]:
    return [session for session in playing if session.place is Place.RUNNING]


async def _whole(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


def _connected(connection: Any, _: Any) -> None:
    """Writes are not put off: each is a step, and where others come in between, as it would be in a joined message."""
    connection.joins = False
    with connection.cursor() as cursor:
        cursor.execute(DEADLOCK_SETTING)
    connection.commit()


class Stage:
    """``url``: a database for it alone. ``open`` gives each node of the scene its database. ``positions``: it matters
    in which order transactions get their numbers."""

    def __init__(self, url: str, clock: Clock, sessions: int = 3) -> None:
        self.turn = threading.Condition()
        self.here = threading.local()
        self.abandoned = self.closed = self.positions = False
        self.sessions = [Session(number, self) for number in range(sessions)]
        self._url, self._clock = url, clock
        self.databases: list[StagedDatabase] = []
        self.control = open_database(url, clock, label="control")
        self._watching: Connection | None = None

    def open(self, label: str) -> StagedDatabase:
        plain = open_database(self._url, self._clock, label=label, connections=4)
        database = StagedDatabase(plain._writer, plain._reader, self._clock)
        event.listen(database.engine, "connect", _connected)
        self.listen(database.engine)
        self.databases.append(database)
        return database

    def begin(self, works: list[Callable[[], Awaitable[Any]]]) -> list[Session]:
        """Starts the work of some sessions, one after the other: what they do before their first statements has an
        order, too. Returns when each has come to that."""
        playing = self.sessions[: len(works)]
        self.abandoned = False
        for session, work in zip(playing, works, strict=True):
            with self.turn:
                session.begin(work)
                self.turn.notify_all()
            self._settle([session])
        return playing

    def step(self, session: Session, playing: list[Session]) -> None:
        """One statement of one session, up to its next one, and of all whom that lets go on."""
        with self.turn:
            for other in playing:
                if other.place is Place.WAITING:
                    other.place = Place.RUNNING
            session.release()
            self.turn.notify_all()
        self._settle(playing)

    def await_victim(self, playing: list[Session]) -> None:
        """All wait for each other: the database ends one of them."""
        with self.turn:
            moved = self.turn.wait_for(
                lambda: (
                    not any(s.place is Place.WAITING for s in playing)
                    or any(s.place is Place.AT_GATE for s in playing)
                ),
                timeout=STUCK_SECONDS,
            )
        if not moved:
            raise Stuck([(s.number, s.pending) for s in playing])
        self._settle(playing)

    def abandon(self, playing: list[Session]) -> None:
        with self.turn:
            self.abandoned = True
            for session in playing:
                if session.place is not Place.OVER:
                    session.release()
            self.turn.notify_all()
            ended = self.turn.wait_for(
                lambda: all(s.place is Place.OVER for s in playing), timeout=STUCK_SECONDS
            )
        if not ended:
            raise Stuck([(s.number, s.place, s.pending) for s in playing])

    def close(self) -> None:
        with self.turn:
            self.closed = True
            self.turn.notify_all()
        for session in self.sessions:
            if session._thread is not None:
                session._thread.join(STUCK_SECONDS)
        if self._watching is not None:
            self._watching.close()
        for database in (self.control, *self.databases):
            asyncio.run(database.close())

    # inside

    def _settle(self, playing: list[Session]) -> None:
        """Returns once nobody runs: all stand at a gate, wait for a lock, or are over."""
        until = time.monotonic() + STUCK_SECONDS
        while True:
            with self.turn:
                if self.turn.wait_for(lambda: not _running(playing), timeout=LOOK_SECONDS):
                    return
                running = _running(playing)
            waiting = self._waiting(running)
            with self.turn:
                # Only when all of them wait: one that does not may be about to let others go on.
                if all(s.pid in waiting and s.place is Place.RUNNING for s in running):
                    for session in running:
                        session.place = Place.WAITING
                    return
            if time.monotonic() > until:
                raise Stuck([(s.number, s.place, s.pending) for s in playing])

    def _waiting(self, running: list[Session]) -> set[int]:
        if self._watching is None:
            self._watching = self.control.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        asked = text(
            "select pid from unnest(cast(:pids as int[])) pid where cardinality(pg_blocking_pids(pid)) > 0"
        )
        return {int(row[0]) for row in self._watching.execute(asked, {"pids": [s.pid for s in running]})}

    def _mine(self) -> Session | None:
        return getattr(self.here, "session", None)

    def listen(self, engine: Engine, *, watched: bool = True) -> None:
        """Whoever acts on a connection of this engine stops before each statement. ``watched``: each new connection
        looks which life of the database this is; that changes nothing here, and comes only in the first order that
        needs the connection, so it is no step."""

        @event.listens_for(engine, "before_cursor_execute")
        def statement(
            conn: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool
        ) -> None:
            session = self._mine()
            if session is None or (watched and LOOKED not in conn.info):
                return
            access = of_statement(context.statement)  # ``sql`` may be the EXECUTE of it
            if self.positions:
                access = in_the_log(access, first=not session.locked)
            session.pid = cursor.connection.info.backend_pid
            if conn.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
                access |= of_end("", access.locks)
            else:
                session.locked |= access.locks
            session.written |= access.locks
            session.gate(access)

        @event.listens_for(engine, "commit")
        def commit(conn: Connection) -> None:
            self._ends("COMMIT")

        @event.listens_for(engine, "rollback")
        def rollback(conn: Connection) -> None:
            self._ends("ROLLBACK")

    def _ends(self, how: str) -> None:
        session = self._mine()
        if session is not None:
            locked, session.locked = session.locked, frozenset()
            if locked:
                session.gate(of_end(how, locked))
