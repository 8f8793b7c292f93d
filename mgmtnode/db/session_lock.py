"""An advisory lock of PostgreSQL that is held by a connection of its own, and goes with it, however that ends."""

from __future__ import annotations

import contextlib
import re
from typing import Any, NamedTuple

from sqlalchemy import Connection, Executable, Row, text
from sqlalchemy.exc import DBAPIError

from mgmtnode.db.faults import convert
from mgmtnode.db.session import SqlDatabase

LABEL_LENGTH = 63  # what PostgreSQL keeps of an application_name

TAKE = text("select pg_try_advisory_lock(:key)")
SESSIONS = text(
    "select a.pid, a.application_name as label, coalesce(host(a.client_addr), 'this machine') as address,"
    " cast(a.state_change as text) as moved, l.pid is not null as holds from pg_stat_activity a"
    " left join pg_locks l on l.pid = a.pid and l.locktype = 'advisory' and l.granted and l.objsubid = 1"
    " and l.database = a.datid and l.classid = 0 and l.objid = :key"
    " where a.datname = current_database() and a.pid <> pg_backend_pid()"
    " and a.application_name like 'mn/%/%' and a.application_name not like :mine"
    " order by a.pid"
)
END = text("select pg_terminate_backend(:pid)")
UPTIME = text("select extract(epoch from clock_timestamp() - pg_postmaster_start_time())")


class Session(NamedTuple):
    """A connection of a node to this database. ``moved`` changes with each of its statements: compare, never order.
    None: this role may not see it."""

    pid: int
    label: str
    address: str
    moved: str | None
    holds: bool

    @property
    def node(self) -> str:
        """The connections of one process have this in common."""
        return "/".join(self.label.split("/")[:3])

    @property
    def name(self) -> str:
        return self.label.split("/")[1]


def label(name: str, process: str, role: str = "") -> str:
    """What the connections of one process of a node are called in ``pg_stat_activity``."""
    tail = f"/{process}" + (f"/{role}" if role else "")
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    return f"mn/{plain[: LABEL_LENGTH - len(tail) - 3]}{tail}"


class SessionLock:
    """Every method blocks, for some seconds at most, and is called from one thread at a time. Each raises
    ``core.database-unavailable`` when the connection is lost; the next call makes a new one, without the lock."""

    def __init__(self, db: SqlDatabase, key: int, called: str) -> None:
        self._db, self._key, self._called = db, key, called
        self._connection: Connection | None = None
        self.held = False

    def take(self) -> bool:
        """Whether this connection has the lock, now or already."""
        if not self.held:
            self.held = bool(self.execute(TAKE, key=self._key)[0][0])
        return self.held

    def sessions(self) -> list[Session]:
        """The connections of other nodes to this database."""
        mine = self._called.rpartition("/")[0] + "%"
        return [Session._make(row) for row in self.execute(SESSIONS, key=self._key, mine=mine)]

    def end(self, pids: list[int]) -> None:
        """Ends connections; what they had not committed is undone."""
        for pid in pids:
            self.execute(END, pid=pid)

    def server_age(self) -> float:
        """Seconds since the database server started."""
        return float(self.execute(UPTIME)[0][0])

    def execute(self, statement: Executable, **values: object) -> list[Row[Any]]:
        """The rows of one statement, which is a transaction of its own."""
        try:
            return list(self._open().execute(statement, values))
        except DBAPIError as exc:
            self.close()
            raise convert(exc) from exc

    def close(self) -> None:
        """Gives the lock back."""
        connection, self._connection, self.held = self._connection, None, False
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.close()

    def _open(self) -> Connection:
        if self._connection is None:
            connection = self._db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()  # from the pool: it is closed with us, and nobody else gets it
            self._connection = connection
            connection.execute(
                text("select set_config('application_name', :called, false)"), {"called": self._called}
            )
        return self._connection
