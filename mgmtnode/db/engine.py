"""Opens a database by URL with the settings that this product relies on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from mgmtnode.db import generation, green
from mgmtnode.db.group_commit import SqliteDatabase
from mgmtnode.db.postgres import PostgresDatabase
from mgmtnode.db.prepared import prepare_often
from mgmtnode.db.session import SqlDatabase
from mgmtnode.ports import Clock
from mgmtnode.telemetry.telemetry import Telemetry

DRIVERS = ("sqlite", "postgresql", "postgresql+psycopg2")
UUID_OID = 2950  # in pg_type
EXAMPLE = "postgresql+psycopg2://USER:PASSWORD@HOST/NAME"
PG_OPTIONS = " ".join(
    f"-c {key}={value}"
    for key, value in {
        "statement_timeout": "5s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "3s",
        # Of the server: that a node is gone must be noticed there.
        "tcp_keepalives_idle": "3",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
        "timezone": "UTC",
        "jit": "off",  # statements are short; a plan whose cost is guessed too high takes seconds to compile
    }.items()
)


class BadUrl(ValueError):
    """``database.url`` leads to no database this product can use. The text does not repeat the password."""


def check_url(url: str) -> None:
    """Raises BadUrl."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        raise BadUrl(f"database.url is not like {EXAMPLE}") from None
    if found.drivername not in DRIVERS:
        raise BadUrl(
            f"database.url: {found.drivername} is not supported; use {EXAMPLE}, or leave it empty for SQLite"
        )
    if found.port is not None and not 0 < found.port < 65536:
        raise BadUrl(f"database.url: there is no port {found.port}")


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for one in memory and for PostgreSQL. Raises BadUrl."""
    check_url(url)
    name = make_url(url).database
    return Path(name) if url.startswith("sqlite") and name and name != ":memory:" else None


def open_database(
    url: str,
    clock: Clock,
    *,
    label: str = "mn/node",
    connections: int = 8,
    telemetry: Telemetry | None = None,
) -> SqlDatabase:
    """``sqlite:///FILE`` or ``postgresql+psycopg2://…``. Does not connect yet. Raises BadUrl.

    ``label``: what the connections are called in ``pg_stat_activity``.
    """
    check_url(url)
    if url.startswith("sqlite"):
        writer, reader = _sqlite(url, "BEGIN IMMEDIATE", 1), _sqlite(url, "BEGIN", 2, "query_only=ON")
        return SqliteDatabase(writer, reader, clock, readers=2, telemetry=telemetry)
    engine = _postgres(url, label, connections)
    _return_dead_ones(engine)
    prepare_often(engine)
    # Each statement of a reader sees its own moment in any case: it needs no BEGIN and no COMMIT.
    reader = engine.execution_options(isolation_level="AUTOCOMMIT")
    readers = max(2, connections // 2)
    return PostgresDatabase(engine, reader, clock, writers=connections, readers=readers, telemetry=telemetry)


def _return_dead_ones(engine: Engine) -> None:
    """A connection that a reader gives back is set to what it was before. Where it has broken meanwhile that fails, and
    SQLAlchemy would leave it out of the pool, and its place taken, for ever."""
    dialect: Any = engine.dialect
    reset = dialect.reset_isolation_level

    def reset_or_close(connection: Any) -> None:
        try:
            reset(connection)
        except dialect.loaded_dbapi.Error:
            connection.close()

    dialect.reset_isolation_level = reset_or_close

    @event.listens_for(engine, "checkin")
    def _forget(connection: Any, record: Any) -> None:
        if connection is not None and connection.closed:
            record.invalidate()


def memory_engine() -> Engine:
    """An SQLite database in memory, on one connection: for simulations, which run each transaction in one go."""
    return _sqlite("sqlite://", "BEGIN IMMEDIATE", 1)


def _sqlite(url: str, begin: str, size: int, *pragmas: str) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": 5},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver's own is deferred
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "cache_size=-8192",
            "temp_store=2",
            *pragmas,
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres(url: str, label: str, connections: int) -> Engine:
    from mgmtnode.db import joined  # only here: importing psycopg2 takes time at boot

    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are said here: see joined
        pool_size=connections,
        max_overflow=connections // 2,
        pool_timeout=5,
        pool_use_lifo=True,  # few connections at little load: theirs are the prepared statements
        pool_pre_ping=False,
        connect_args={
            "connection_factory": joined.JoiningConnection,
            "cursor_factory": joined.JoiningCursor,
            "application_name": label,
            "options": PG_OPTIONS,
            "connect_timeout": 5,
            "keepalives_idle": 3,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )
    generation.watch(engine)
    event.listen(engine, "connect", _uuids_as_text)
    _wait_on_the_loop(engine)
    joined.join(engine)
    return engine


def _wait_on_the_loop(engine: Engine) -> None:
    """Has psycopg2 wait as ``green`` does, everywhere in this process."""
    from psycopg2 import extensions  # type: ignore[import-untyped]

    extensions.set_wait_callback(green.wait)

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, words: Any, options: Any) -> Any:
        return green.in_thread(lambda: dialect.loaded_dbapi.connect(*words, **options))


def _uuids_as_text(connection: Any, _: Any) -> None:
    """SQLAlchemy has the driver make a UUID of each, and then a text of it, which is what we want and what came."""
    from psycopg2 import extensions

    as_text = extensions.new_type((UUID_OID,), "UUID", lambda value, cursor: value)
    extensions.register_type(as_text, connection)
