"""Private servers: isolation, restarts, crashes, and what happens when one is missing or cannot start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from mgmtnode.testing.process import HOST, PORTS, PrivateServer, ServerFailed, ServerMissing, free_port
from mgmtnode.testing.servers import PostgresServer, RabbitServer, RedisServer

pytestmark = pytest.mark.integration


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_listens_on_loopback_at_a_private_port_only(postgres_server: PostgresServer) -> None:
    url = urlsplit(postgres_server.url)
    assert (url.scheme, url.hostname) == ("postgresql+psycopg2", HOST)
    assert url.port in PORTS
    assert query(postgres_server.url, "SHOW listen_addresses") == [(HOST,)]
    assert query(postgres_server.url, "SHOW unix_socket_directories") == [("",)]


def test_runs_tests_fast_and_production_durably(postgres_server: PostgresServer) -> None:
    assert query(postgres_server.url, "SHOW fsync") == [("off",)]
    assert query(postgres_server.url, "SHOW synchronous_commit") == [("on",)]
    assert query(postgres_server.url, "SHOW max_connections") == [("200",)]
    with PostgresServer(durable=True, settings={"work_mem": "8MB"}) as durable:
        assert query(durable.url, "SHOW fsync") == [("on",)]
        assert query(durable.url, "SHOW work_mem") == [("8MB",)]


def test_makes_a_database_once_and_drops_it_under_a_session(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("twice")
    assert postgres_server.create_database("twice") == url
    session = psycopg2.connect(url.replace("+psycopg2", ""))
    postgres_server.drop_database("twice")
    postgres_server.drop_database("twice")
    session.close()
    assert query(postgres_server.url, "SELECT 1 FROM pg_database WHERE datname = 'twice'") == []


def test_refuses_a_database_name_that_would_need_quotes(postgres_server: PostgresServer) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        postgres_server.create_database('a"; DROP DATABASE b')


def test_every_test_gets_an_empty_database(postgres_url: str) -> None:
    assert query(postgres_url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


@pytest.mark.parametrize("mode", ["graceful", "kill"])
def test_commits_survive_a_restart_on_the_same_port(mode: str) -> None:
    with PostgresServer() as server:
        url, pid = server.create_database("kept"), server.pid
        query(url, "CREATE TABLE t AS SELECT 7 AS n")
        server.restart(mode)  # type: ignore[arg-type]  # a parameter is a str
        assert server.pid != pid
        assert query(url, "SELECT n FROM t") == [(7,)]


def test_revives_a_server_that_was_killed_from_outside() -> None:
    with PostgresServer() as server:
        os.kill(server.pid, signal.SIGKILL)
        server.restart()
        assert query(server.url, "SELECT 1") == [(1,)]


def test_uses_the_data_of_an_earlier_run_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    first = PostgresServer().start()
    directory = first.directory.parent
    try:
        query(first.create_database("kept"), "CREATE TABLE t ()")
        first._owns_parent = False
        first.stop()
        second = PostgresServer().start(directory)
        assert query(second.database_url("kept"), "SELECT count(*) FROM t") == [(0,)]
    finally:
        second._owns_parent = True
        second.stop()


def test_stop_leaves_no_process_and_no_directory(redis: RedisServer) -> None:
    pid, parent = redis.pid, redis.directory.parent
    redis.stop()
    redis.stop()
    assert not alive(pid)
    assert not parent.exists()
    with pytest.raises(ServerFailed, match="not running"):
        _ = redis.pid


def test_a_stopped_process_is_killed_when_it_ignores_the_request(redis: RedisServer) -> None:
    pid = redis.pid
    os.kill(pid, signal.SIGSTOP)
    redis.stop_seconds = 0.1  # type: ignore[misc]  # shortened for this one object
    redis.stop()
    assert not alive(pid)


def test_two_servers_share_nothing(redis: RedisServer) -> None:
    with RedisServer() as other:
        assert other.port != redis.port
        assert other.directory != redis.directory


def test_a_port_taken_in_between_makes_it_choose_another(redis: RedisServer) -> None:
    class Unlucky(RedisServer):
        def _choose_ports(self) -> None:
            self.port = free_port() if self.port else redis.port

    with Unlucky() as server:
        assert server.port not in (0, redis.port)


def test_a_failed_start_shows_the_log_and_cleans_up() -> None:
    server = PostgresServer(settings={"no_such_setting": "1"})
    with pytest.raises(ServerFailed, match=r"(?s)ended with 1.*no_such_setting"):
        server.start()
    assert not server.directory.exists()


def test_a_server_that_never_answers_is_given_up_at_the_deadline() -> None:
    class Deaf(RedisServer):
        start_seconds = 0.2

        def _is_ready(self) -> bool:
            return False

    server = Deaf()
    with pytest.raises(ServerFailed, match="did not answer"):
        server.start()
    assert not server.directory.exists()


def test_a_missing_program_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ServerMissing, match="apt-get install redis-server"):
        RedisServer().start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another account")
def test_an_unreachable_directory_is_refused_with_advice(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ServerFailed, match="cannot reach"):
        RedisServer().start(tmp_path / "below")


def test_a_server_ends_with_the_process_that_started_it() -> None:
    program = """
        import sys, time
        from mgmtnode.testing.servers import RedisServer
        server = RedisServer().start()
        print(server.pid, server.directory, flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        first, directory = owner.stdout.readline().split()
        pid = int(first)
        assert alive(pid)
        owner.kill()
    assert within(5.0, lambda: not alive(pid))
    assert within(8.0, lambda: not Path(directory).parent.exists())


def test_free_ports_are_never_handed_out_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_rabbit_makes_and_deletes_virtual_hosts(rabbit_server: RabbitServer) -> None:
    assert rabbit_server.create_vhost("one") == rabbit_server.vhost_url("one")
    assert rabbit_server.eval('rabbit_vhost:exists(<<"one">>).') == "true"
    rabbit_server.delete_vhost("one")
    assert rabbit_server.eval('rabbit_vhost:exists(<<"one">>).') == "false"


def test_rabbit_reports_a_fault_in_evaluated_code(rabbit_server: RabbitServer) -> None:
    with pytest.raises(ServerFailed, match="undef"):
        rabbit_server.eval("no_such:function().")


def test_an_amqp_client_works_in_a_virtual_host_of_its_own(rabbit_url: str) -> None:
    import kombu

    with kombu.Connection(rabbit_url) as connection, connection.SimpleQueue("q") as queue:
        queue.put({"n": 7})
        assert queue.get(timeout=30).payload == {"n": 7}


@pytest.mark.slow
def test_rabbit_restarts_on_its_port_and_leaves_no_process() -> None:
    with RabbitServer() as server:
        port, first = server.port, server.pid
        family = [server.pid, *server._other_pids()]
        server.restart("kill")
        assert (server.port, server.pid != first) == (port, True)
        assert not any(alive(pid) for pid in family)
        family = [server.pid, *server._other_pids()]
        with socket.create_connection((HOST, port)):
            pass
    assert not any(alive(pid) for pid in family)


def test_the_base_class_says_what_a_server_is() -> None:
    with pytest.raises(NotImplementedError):
        PrivateServer()._find_program()
