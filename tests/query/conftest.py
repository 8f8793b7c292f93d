"""The query engine over a small installation, on SQLite and, where it can be started, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.ports import SystemClock
from mgmtnode.query.engine import Query
from tests.query import schema
from tests.query.world import START, World

POSTGRES = pytest.param("postgresql", marks=pytest.mark.integration)


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def query() -> Query:
    return Query(schema.RESOURCES, schema.TABLES)


@pytest.fixture(scope="session", params=["sqlite", POSTGRES])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, world: World
) -> Iterator[SqlDatabase]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('query')}/test.db"
    else:
        url = request.getfixturevalue("postgres_server").create_database("query_test")
    opened = open_database(url, SystemClock())
    schema.metadata.create_all(opened.engine)
    opened.run(world.write)
    yield opened
    opened.engine.dispose()


def patient(connection: Connection) -> None:
    """A transaction of a whole test may be idle for longer than a node's, while Python works or waits for a core."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


@pytest.fixture
def tx(database: SqlDatabase) -> Iterator[Tx]:
    with database.engine.connect() as connection, connection.begin():
        patient(connection)
        yield Tx(connection, START, None)
