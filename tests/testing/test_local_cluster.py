"""A cluster of processes on this machine: what it starts it ends, whatever becomes of who started it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.db.lock import DirectoryTaken
from mgmtnode.testing.family import Identity
from mgmtnode.testing.local_cluster import LocalCluster
from mgmtnode.testing.local_cluster.directory import ClusterDirectory
from mgmtnode.testing.local_cluster.member import Member, clean_environment
from mgmtnode.testing.local_cluster.operator import ensure_token
from mgmtnode.testing.process import HOST, ServerFailed, ServerMissing, free_port
from mgmtnode.testing.servers import PostgresServer, RabbitServer


def everything(listed: Any) -> set[Identity]:
    """All processes that a servers.json names."""
    if not isinstance(listed, dict):
        return set()
    here = {Identity(listed["pid"], listed["started"])} if "pid" in listed else set()
    return here.union(*map(everything, listed.values()))


def gone(processes: set[Identity], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while any(who.lives for who in processes) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(who.lives for who in processes)


def web(directory: Path, *, code: str = "", log: str = "web") -> Member:
    """A small HTTP server as a member; ``code`` runs before it serves."""
    port = free_port()
    serve = f"import http.server as h; h.HTTPServer(({HOST!r}, {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    return Member(
        log,
        port,
        [sys.executable, "-c", f"{code}\n{serve}"],
        clean_environment(),
        log_file=directory / f"{log}.log",
        pid_file=directory / f"{log}.pid",
        ready_path="/",
    )


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    member = web(tmp_path)
    yield member
    member.kill()


def test_a_member_is_started_killed_and_started_again(member: Member, tmp_path: Path) -> None:
    member.start()
    member.wait_ready()
    first = member.pid
    assert (tmp_path / "web.pid").read_text() == f"{first}\n"
    with pytest.raises(ServerFailed, match="already running"):
        member.start()
    member.kill()
    assert (member.running, member.exit_code) == (False, -signal.SIGKILL)
    assert not (tmp_path / "web.pid").exists()
    member.restart()
    assert member.running and member.pid != first


def test_a_paused_member_answers_nobody_until_it_is_resumed_and_can_be_terminated(member: Member) -> None:
    member.start()
    member.wait_ready()
    member.pause()
    assert member.running and not member.ready
    member.resume()
    assert member.ready
    member.pause()
    assert member.terminate(10.0) == -signal.SIGTERM


def test_a_member_that_ends_while_starting_is_told_with_its_last_words(tmp_path: Path) -> None:
    member = web(tmp_path, code="raise SystemExit('no configuration')")
    member.start()
    with pytest.raises(ServerFailed, match=r"(?s)web ended with 1 while starting.*no configuration"):
        member.wait_ready()


def test_what_a_killed_process_had_started_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        sys.path[:0] = {sys.path!r}
        from tests.testing.test_local_cluster import web
        member = web(Path({str(tmp_path)!r}))
        member.start()
        member.wait_ready()
        print(member.pid, flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    from mgmtnode.testing.family import identify

    child = identify(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert child is not None and gone({child}, 10.0)


def test_a_directory_is_for_one_cluster_at_a_time(tmp_path: Path) -> None:
    first, second = ClusterDirectory(tmp_path), ClusterDirectory(tmp_path)
    first.enter()
    with pytest.raises(DirectoryTaken):
        second.enter()
    first.leave()
    second.enter()
    second.leave()


def test_what_an_earlier_cluster_left_is_waited_for_and_a_stranger_with_its_pid_is_not(
    tmp_path: Path, member: Member
) -> None:
    member.start()
    left = member.described()
    (tmp_path / "c").mkdir()
    listed = {"nodes": {"node-1": left}, "balancer": left | {"started": 1}}
    (tmp_path / "c" / "servers.json").write_text(json.dumps(listed))
    # It is about to end, as what is left of a cluster is.
    ending = subprocess.Popen(["/bin/sh", "-c", f"sleep 1; kill -9 {member.pid}"])
    directory = ClusterDirectory(tmp_path / "c")
    directory.enter()
    assert member.exit_code == -signal.SIGKILL
    directory.leave()
    ending.wait()


def test_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path)
    assert directory.password() == directory.password() != ""
    assert directory.password_file.stat().st_mode & 0o777 == 0o600


def test_all_that_is_missing_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for server, what in ((PostgresServer, "PostgreSQL"), (RabbitServer, "RabbitMQ")):

        def missing(self: object, what: str = what) -> None:
            raise ServerMissing(f"{what} is not installed: apt-get install x")

        monkeypatch.setattr(server, "_find_program", missing)
    with pytest.raises(ServerMissing) as caught:
        LocalCluster(tmp_path / "c", 3).start()
    assert str(caught.value) == (
        "PostgreSQL is not installed; RabbitMQ is not installed: apt-get install postgresql rabbitmq-server"
    )
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("size", [0, 10])
def test_a_cluster_has_one_to_nine_nodes(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="1 to 9"):
        LocalCluster(tmp_path, size)


@pytest.mark.integration
@pytest.mark.slow
def test_two_nodes_serve_behind_the_small_forwarder_and_keep_their_data(
    postgres_server: PostgresServer, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    """The servers are asked for so that the test is skipped where there are none; the cluster has its own."""
    cluster = LocalCluster(tmp_path / "c", 2, balancer_kind="forwarder").start()
    try:
        ensure_token(cluster)
        listed = everything(json.loads(cluster.directory.servers_file.read_text()))
        assert len(listed) == 6 and all(who.lives for who in listed)
        with cluster.http() as http, cluster.http("node-2") as second:
            made = http.post("/zones", json={"name": "west"}, headers={"prefer": "wait=20"})
            assert made.status_code == 201, made.text
            cluster.nodes["node-1"].kill()
            assert http.get("/zones").json()["items"][0]["name"] == "west"
            assert second.get("/zones").status_code == 200
        cluster.stop()
        assert gone(listed, 0.0)
        again = cluster.token
        with LocalCluster(tmp_path / "c", 1) as one:
            assert ensure_token(one) == again
            with one.http() as http:
                assert http.get("/zones").json()["items"][0]["name"] == "west"
    finally:
        cluster.stop(at_once=True)
        cluster.directory.remove_servers()
