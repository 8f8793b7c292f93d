"""A connection outside the pool, for what must not wait behind other work: the heartbeat of a node."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, Executable, text
from sqlalchemy.exc import DBAPIError

from mgmtnode.db.faults import convert
from mgmtnode.db.session import SqlDatabase

LABEL_LENGTH = 63  # what PostgreSQL keeps of an application_name


def label(name: str, process: str, role: str = "") -> str:
    """What the connections of one process of a node are called in ``pg_stat_activity``."""
    tail = f"/{process}" + (f"/{role}" if role else "")
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    return f"mn/{plain[: LABEL_LENGTH - len(tail) - 3]}{tail}"


class OwnConnection:
    """Each statement is a transaction of its own. ``settings`` are made for the session, each time it is opened.

    Every method blocks, for some seconds at most, and is called from one thread at a time. ``execute`` raises
    ``core.database-unavailable`` when the connection is lost; the next call makes a new one.
    """

    def __init__(self, db: SqlDatabase, settings: Mapping[str, str]) -> None:
        pool = db.engine.pool.recreate()  # empty, and ours: the other may have no connection left to give
        self._engine, self._settings = Engine(pool, db.engine.dialect, db.engine.url), settings
        self._connection: Connection | None = None

    def execute(self, statement: Executable, values: Any = None) -> CursorResult[*tuple[Any, ...]]:
        try:
            return self._open().execute(statement, values)
        except DBAPIError as exc:
            self.close()
            raise convert(exc) from exc

    def close(self) -> None:
        """Ends the session, and with it its advisory locks."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.close()

    def _open(self) -> Connection:
        if self._connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()  # from the pool: it is closed with us
            self._connection = connection
            for name, value in self._settings.items():
                setting = text("select set_config(:name, :value, false)")
                connection.execute(setting, {"name": name, "value": value})
        return self._connection
