from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.cli import checks, doctor
from mgmtnode.cli.checks import Level
from mgmtnode.cli.main import invoke
from mgmtnode.config.core_properties import API_HOST, API_PORT, BUS_URL, DATA_DIR, DATABASE_URL, REDIS_URL
from mgmtnode.config.file import Properties
from mgmtnode.config.properties import GlobalProperty


def properties(*values: tuple[GlobalProperty[Any], Any]) -> Properties:
    made = Properties()
    for prop, value in ((API_HOST, "127.0.0.1"), *values):
        made.override(prop, value, "the test")
    return made


@contextmanager
def neighbour(answer: bytes | None) -> Iterator[int]:
    """A server that says one thing to whoever connects, or (None) nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            link, _ = server.accept()
            with link:
                link.recv(64)
                if answer is not None:
                    link.sendall(answer)
                link.recv(64)  # until the other side hangs up

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
    thread.join(5)


def test_a_machine_that_fits_is_told_so_in_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MGMTNODE_NODE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MGMTNODE_API_PORT", "0")
    assert invoke(["doctor", "--json"]) == 0
    findings = {f["check"]: f for f in json.loads(capsys.readouterr().out)}
    assert list(findings) == ["configuration", *checks.CHECKS]
    assert all(f["level"] != "failed" for f in findings.values())
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        level, text = checks.port(properties((API_PORT, taken.getsockname()[1])))
    assert level is Level.FAILED
    assert "is a node running already?" in text


def test_a_data_directory_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = doctor._within(
        "data", lambda: checks.data_directory(properties((DATA_DIR, str(tmp_path / "file"))))
    )
    assert finding.level is Level.FAILED


def test_a_broker_is_known_by_its_first_frame() -> None:
    with neighbour(b"\x01\x00\x00\x00\x00\x00\x05\x00") as port:
        level, text = checks.broker(properties((BUS_URL, f"amqp://guest:hunter2@127.0.0.1:{port}/")))
    assert (level, "hunter2" in text) == (Level.OK, False)
    with neighbour(b"HTTP/1.1") as port:
        level, text = checks.broker(properties((BUS_URL, f"amqp://127.0.0.1:{port}/")))
    assert level is Level.FAILED


def test_redis_is_asked_for_a_sign_of_life() -> None:
    with neighbour(b"+PONG\r\n") as port:
        assert checks.redis(properties((REDIS_URL, f"redis://127.0.0.1:{port}/0")))[0] is Level.OK


def test_what_does_not_answer_fails_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CONNECT_SECONDS", 0.2)
    with neighbour(None) as port:
        given = properties((BUS_URL, f"amqp://127.0.0.1:{port}/"))
        finding = doctor._within("broker", lambda: checks.broker(given))
    assert (finding.level, finding.text) == (Level.FAILED, "timed out")
    monkeypatch.setattr(doctor, "DEADLINE", 0.05)
    release = threading.Event()
    finding = doctor._within("slow", lambda: (Level.OK, str(release.wait(5))))
    release.set()
    assert finding.text.startswith("no answer within")


def test_a_database_that_is_away_fails_without_telling_its_password() -> None:
    given = properties((DATABASE_URL, "postgresql+psycopg2://mn:hunter2@127.0.0.1:1/mn"))
    finding = doctor._within("database", lambda: checks.database(given))
    assert finding.level is Level.FAILED
    assert "hunter2" not in finding.text


@pytest.mark.integration
def test_a_server_database_says_its_version_and_its_clock(postgres_url: str) -> None:
    given = properties((DATABASE_URL, postgres_url))
    assert checks.database(given)[1].startswith("PostgreSQL 1")
    assert checks.clock(given)[0] is Level.OK
