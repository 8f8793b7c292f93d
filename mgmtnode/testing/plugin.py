"""The pytest plugin that comes with the product: private servers, and a fresh database or broker for a test.

pytest loads it in every environment that has the product installed, so importing it must cost next to
nothing: whatever a fixture needs is imported inside the fixture.

Under pytest-xdist each worker has servers of its own, started by the first of its tests that asks: a test may
then kill or stall the server it uses and disturb nobody (docs/adr/0012).
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from mgmtnode.testing.agents_thread import AgentsThread
    from mgmtnode.testing.cloud import Cloud
    from mgmtnode.testing.flavour import Flavour
    from mgmtnode.testing.process import PrivateServer
    from mgmtnode.testing.servers import PostgresServer, RabbitServer, RedisServer

    _Server = TypeVar("_Server", bound=PrivateServer)

_MISSING = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """One PostgreSQL server for the whole run. A test of its own database asks for ``postgres_url``."""
    from mgmtnode.testing.servers import PostgresServer

    yield from _running(request, PostgresServer)


@pytest.fixture(scope="session")
def rabbit_server(request: pytest.FixtureRequest) -> Iterator[RabbitServer]:
    """One RabbitMQ server for the whole run. A test of its own queues asks for ``rabbit_url``."""
    from mgmtnode.testing.servers import RabbitServer

    yield from _running(request, RabbitServer)


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One Redis server for the whole run."""
    from mgmtnode.testing.servers import RedisServer

    yield from _running(request, RedisServer)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that is dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def rabbit_url(rabbit_server: RabbitServer) -> Iterator[str]:
    """The URL of an empty RabbitMQ virtual host that is deleted after the test."""
    name = f"test-{uuid.uuid4().hex}"
    yield rabbit_server.create_vhost(name)
    rabbit_server.delete_vhost(name)


FLAVOURS = ("sqlite", "postgresql", "cluster")


@pytest.fixture(params=FLAVOURS[:2])
def database_url(request: pytest.FixtureRequest) -> str:
    """Where the node under test keeps its data: every test runs on both databases. The schema is there already,
    which is quicker."""
    _skip_unless_chosen(request.param)
    return str(request.getfixturevalue(_UPGRADED[request.param]))


@pytest.fixture(params=FLAVOURS[:2])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """As ``database_url``, with nothing in it. Empty means SQLite."""
    _skip_unless_chosen(request.param)
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


# Two nodes on PostgreSQL find what one on PostgreSQL finds; that one is run by asking for it.
CLOUDS = tuple(os.environ.get("MGMTNODE_TEST_DATABASES", "sqlite,cluster").split(","))


@pytest.fixture(params=CLOUDS)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """What the nodes under test stand on: every test runs on one node with SQLite, and on two nodes with PostgreSQL and
    RabbitMQ."""
    from mgmtnode.testing.flavour import Flavour

    database_url = str(request.getfixturevalue(_UPGRADED[request.param]))
    if request.param != "cluster":
        return Flavour(request.param, database_url)
    return Flavour("cluster", database_url, str(request.getfixturevalue("rabbit_url")), ("test-1", "test-2"))


_UPGRADED = {
    "sqlite": "upgraded_sqlite_url",
    "postgresql": "upgraded_postgres_url",
    "cluster": "upgraded_postgres_url",
}


def _skip_unless_chosen(flavour: str) -> None:
    chosen = os.environ.get("MGMTNODE_TEST_DATABASES", ",".join(FLAVOURS)).split(",")
    if flavour not in chosen:
        pytest.skip(f"MGMTNODE_TEST_DATABASES is {','.join(chosen)}")


@pytest.fixture(scope="session")
def upgraded_template(postgres_server: PostgresServer) -> str:
    """The name of a database that has the schema of the core and of every installed service."""
    _upgrade(postgres_server.create_database("upgraded"))
    return "upgraded"


@pytest.fixture(scope="session")
def upgraded_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database that has the schema of the core and of every installed service."""
    file = tmp_path_factory.mktemp("upgraded") / "template.db"
    _upgrade(f"sqlite:///{file}")
    return file


def _upgrade(url: str) -> None:
    import asyncio

    from mgmtnode.db.engine import open_database
    from mgmtnode.db.schema import upgrade
    from mgmtnode.loader import discover
    from mgmtnode.ports import SystemClock

    db = open_database(url, SystemClock())
    upgrade(db, discover())
    asyncio.run(db.close())


@pytest.fixture
def upgraded_postgres_url(postgres_server: PostgresServer, upgraded_template: str) -> Iterator[str]:
    """The URL of a PostgreSQL database with the schema and no rows, dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres_server.create_database(name, upgraded_template)
    postgres_server.drop_database(name)


@pytest.fixture
def upgraded_sqlite_url(upgraded_file: Path, tmp_path: Path) -> str:
    """The URL of an SQLite database with the schema and no rows."""
    file = tmp_path / "mgmtnode.db"
    shutil.copyfile(upgraded_file, file)
    return f"sqlite:///{file}"


@pytest.fixture
def shared_agents() -> AgentsThread | None:
    """Host agents for nodes of a cluster, which cannot each simulate hosts of their own. Whoever has some overrides it
    (this product's tests: tests/conftest.py); asked for by ``cloud`` only when there are several nodes."""
    return None


@pytest.fixture
def cloud(request: pytest.FixtureRequest, flavour: Flavour, tmp_path: Path) -> Iterator[Cloud]:
    """One or more running nodes with every installed service, as their operator sees them."""
    agents = request.getfixturevalue("shared_agents") if flavour.bus_url else None
    with flavour.cloud(tmp_path, agents=agents) as cloud:
        yield cloud


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands what it missed to the process that writes the summary."""
    workeroutput: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput["mgmtnode_missing"] = sorted(session.config.stash.get(_MISSING, ()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Called by pytest-xdist for each worker that ends; one that crashed has handed over nothing."""
    output: dict[str, list[str]] = getattr(node, "workeroutput", None) or {}
    node.config.stash.setdefault(_MISSING, set()).update(output.get("mgmtnode_missing", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says at the end of the run, in red, that tests did not run for want of a server."""
    packages = sorted(config.stash.get(_MISSING, ()))
    if packages:
        advice = f"tests were skipped for want of servers: apt-get install {' '.join(packages)}"
        terminalreporter.write_line(advice, red=True, bold=True)


def _running(request: pytest.FixtureRequest, make: Callable[[], _Server]) -> Iterator[_Server]:
    from mgmtnode.testing.process import ServerMissing

    server = make()
    try:
        server.start()
    except ServerMissing as missing:
        if servers_are_required():
            pytest.fail(str(missing), pytrace=False)
        request.config.stash.setdefault(_MISSING, set()).add(server.package)
        pytest.skip(str(missing))
    try:
        yield server
    finally:
        server.stop("kill")  # its directory goes with it: nothing is worth an orderly end


def servers_are_required() -> bool:
    """Whether a test that lacks a server fails instead of being skipped."""
    return bool(os.environ.get("CI")) or os.environ.get("MGMTNODE_REQUIRE_SERVERS") == "1"
