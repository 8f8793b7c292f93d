"""Which life of the database this is. After a failover that lost commits, or a restore, it would hand out numbers that
agents have seen before: epochs, and the numbers of jobs and events. So a new life begins with numbers above all of
the one before, and nothing is done in it earlier: each connection looks before its first use (docs/adr/0038)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, func, select, text, update
from sqlalchemy.exc import DBAPIError

from mgmtnode.db.tables import OPEN, cluster, event_log, job, ring_slot

log = logging.getLogger(__name__)

SHIFT = 40  # 2^40 numbers a life, and 8191 lives below 2^53, up to which JSON's numbers are whole everywhere
LOOKED = "mgmtnode.generation"

# A promoted standby and a point-in-time restore write on another timeline; a restored dump is another database.
ORIGIN = text(
    "select (select system_identifier from pg_control_system()) || '/'"
    " || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '/'"
    " || (select oid from pg_database where datname = current_database())"
)
HAS_CLUSTER = text("select to_regclass('mn_cluster') is not null")


def watch(engine: Engine) -> None:
    """Has each new connection of a PostgreSQL engine look whether the database has begun another life."""

    @event.listens_for(engine, "engine_connect")
    def look(connection: Connection) -> None:
        if LOOKED in connection.info:
            return
        try:
            with _in_a_transaction(connection):
                _look(connection)
        except BaseException as exc:
            dbapi: Any = connection.dialect.loaded_dbapi
            lost = isinstance(exc, dbapi.Error)  # where it broke SQLAlchemy does not look
            if lost:
                connection.invalidate(exc)
            connection.close()  # nobody gets it
            if not lost:
                raise
            raise DBAPIError.instance(
                "is it another life",
                None,
                exc,
                dbapi.Error,
                connection_invalidated=True,
                dialect=connection.dialect,
            ) from exc
        connection.info[LOOKED] = True


@contextmanager
def _in_a_transaction(connection: Connection) -> Iterator[None]:
    """Whatever the connection is for: those of readers commit each statement by itself."""
    driver: Any = connection.connection.dbapi_connection
    before, driver.autocommit = driver.autocommit, False
    try:
        yield
        connection.commit()
    finally:
        if not driver.closed:
            driver.rollback()
            driver.autocommit = before


def origin(connection: Connection) -> str | None:
    """What tells one life of this database from another; None where only an operator can (SQLite)."""
    real = connection.dialect.name == "postgresql"
    return str(connection.execute(ORIGIN).scalar_one()) if real else None


def begin_another(connection: Connection, known: str | None = None) -> int:
    """Raises all numbers above those of the lives before; returns the generation. Jobs that run are taken over as
    after a crash. ``known``: the origin that is noted for it. The caller holds the lock on the cluster's row, and
    commits."""
    generation = int(connection.execute(select(cluster.c.db_generation)).scalar_one()) + 1
    base = generation << SHIFT
    greater = func.greatest if connection.dialect.name == "postgresql" else func.max
    raised = {
        "db_generation": generation,
        "origin": known,
        "ring_version": greater(cluster.c.ring_version, base) + 1,
    }
    connection.execute(update(cluster).values(raised))
    connection.execute(update(ring_slot).values(epoch=greater(ring_slot.c.epoch, base) + 1))
    epoch = select(ring_slot.c.epoch).where(ring_slot.c.slot == job.c.slot).scalar_subquery()
    connection.execute(update(job).where(OPEN).values(fence=epoch))
    for table in (job.name, event_log.name):
        _draw_above(connection, table, base)
    log.warning("the database begins its life %d: epochs and numbers go on from %d", generation, base)
    return generation


def restored(engine: Engine) -> int:
    """Begins another life because an operator says so; returns the generation. Blocks."""
    with engine.begin() as connection:
        connection.execute(select(cluster.c.id).with_for_update()).scalar_one()
        return begin_another(connection, origin(connection))


def _look(connection: Connection) -> None:
    if connection.execute(HAS_CLUSTER).scalar_one():
        here = origin(connection)
        noted = connection.execute(select(cluster.c.origin)).first()
        if noted is not None and noted[0] != here:
            _take_note(connection, here)


def _take_note(connection: Connection, here: str | None) -> None:
    noted = connection.execute(select(cluster.c.origin).with_for_update()).scalar_one()
    if noted is None:
        connection.execute(update(cluster).values(origin=here))
    elif noted != here:  # another connection may have been faster
        begin_another(connection, here)


def _draw_above(connection: Connection, table: str, base: int) -> None:
    values: dict[str, Any] = {"name": table, "base": base}
    if connection.dialect.name == "sqlite":
        connection.execute(text("delete from sqlite_sequence where name = :name and seq < :base"), values)
        connection.execute(
            text(
                "insert into sqlite_sequence (name, seq) select :name, :base where not exists"
                " (select 1 from sqlite_sequence where name = :name)"
            ),
            values,
        )
        return
    column = "pg_get_serial_sequence(:name, 'seq')"
    connection.execute(text(f"select setval({column}, greatest(nextval({column}), :base))"), values)
