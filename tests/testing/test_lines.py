"""Lines that break: what arrives, what does not, and who hears of it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from mgmtnode.testing.chaos import FAIR, Lines, Weather
from mgmtnode.testing.chaos.commits import Frontend
from mgmtnode.testing.chaos.weather import Commit, Way
from mgmtnode.testing.process import HOST

PATIENCE = 20.0
SILENCE = 0.2


class Echo:
    """Answers each piece of data with itself; keeps what it got, and whether its client was lost."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self.got = bytearray()
        self.lost = threading.Event()
        self.heard = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
        except OSError:
            return

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    self.got += data
                    self.heard.set()
                    connection.sendall(data)
            except ConnectionResetError:
                self.lost.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture
def lines() -> Iterator[Lines]:
    made = Lines("test").start()
    yield made
    made.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), PATIENCE)


def asked(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return answer(connection, len(text))


def answer(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (data := connection.recv(65536)):
        found += data
    return found


def silent(connection: socket.socket) -> bool:
    """Nothing comes, not even an end: which can only be seen by waiting for a moment."""
    connection.settimeout(SILENCE)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(PATIENCE)
    return False


def test_a_line_in_fair_weather_carries_everything_both_ways(lines: Lines, echo: Echo) -> None:
    much = bytes(range(256)) * 4096
    with connect(lines.open("a", echo.port)) as client:
        sender = threading.Thread(target=client.sendall, args=(much,))
        sender.start()
        assert answer(client, len(much)) == much
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_what_is_held_arrives_when_the_line_is_mended(lines: Lines, echo: Echo) -> None:
    with connect(lines.open("a", echo.port)) as client:
        assert asked(client, b"one") == b"one"
        lines.change("a", Weather(held=frozenset({Way.UP})))
        client.sendall(b"two")
        assert silent(client) and echo.got == b"one"
        lines.change("a", Weather(held=frozenset({Way.DOWN})))
        assert silent(client)
        lines.change("a", FAIR)
        assert answer(client, 3) == b"two"


def test_a_line_that_is_deaf_still_carries_requests(lines: Lines, echo: Echo) -> None:
    with connect(lines.open("a", echo.port)) as client:
        lines.change("a", Weather(held=frozenset({Way.DOWN})))
        client.sendall(b"do it")
        assert echo.heard.wait(PATIENCE) and silent(client)


def test_who_connects_to_a_line_that_is_cut_is_served_once_it_is_mended(lines: Lines, echo: Echo) -> None:
    port = lines.open("a", echo.port)
    lines.change("a", Weather(held=frozenset({Way.UP, Way.DOWN})))
    with connect(port) as client:
        client.sendall(b"hello")
        assert silent(client)
        lines.change("a", FAIR)
        assert answer(client, 5) == b"hello"


def test_a_reset_ends_what_there_is_and_nothing_else(lines: Lines, echo: Echo) -> None:
    port = lines.open("a", echo.port)
    with connect(port) as client:
        asked(client, b"x")
        lines.reset("a")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(port) as client:
        assert asked(client, b"y") == b"y"


def test_a_line_that_refuses_resets_who_comes(lines: Lines, echo: Echo) -> None:
    port = lines.open("a", echo.port)
    lines.change("a", Weather(refuses=True))
    with pytest.raises(ConnectionResetError), connect(port) as client:  # connecting may hear of it already
        client.sendall(b"x")
        client.recv(1)


def test_a_client_does_not_hear_that_the_server_lost_its_connection(lines: Lines, echo: Echo) -> None:
    with connect(lines.open("a", echo.port)) as client:
        asked(client, b"x")
        lines.change("a", Weather(severed=True))
        assert echo.lost.wait(PATIENCE)
        client.sendall(b"y")
        assert silent(client)
        lines.change("a", FAIR)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def query(text: bytes) -> bytes:
    return b"Q" + struct.pack(">I", 5 + len(text)) + text + b"\0"


STARTUP = struct.pack(">II", 8 + len(b"user\0x\0\0"), 196608) + b"user\0x\0\0"
SSL_REQUEST = struct.pack(">II", 8, 80877103)


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_a_commit_is_seen_however_the_bytes_are_cut(size: int) -> None:
    long = query(b"INSERT INTO t VALUES ('COMMIT" + b"x" * 3000 + b"')")
    sent = (
        SSL_REQUEST
        + STARTUP
        + query(b"BEGIN")
        + long
        + query(b"COMMIT")
        + query(b"SELECT 1; SELECT 'COMMIT'")
        + query(b"INSERT INTO t VALUES (1); COMMIT")
        + query(b"SELECT 1")
        + query(b"commit;")
    )
    frontend = Frontend()
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    seen = [n for n, piece in enumerate(pieces) if frontend.commits(piece)]
    commits = (query(b"COMMIT"), query(b"INSERT INTO t VALUES (1); COMMIT"), query(b"commit;"))
    ends = {(sent.index(commit) + len(commit) - 1) // size for commit in commits}
    assert seen == sorted(ends)


@pytest.mark.parametrize("commit", list(Commit))
def test_a_commit_without_an_answer_was_done_or_not_as_the_weather_says(
    commit: Commit, lines: Lines, echo: Echo
) -> None:
    with connect(lines.open("a", echo.port, postgres=True)) as client:
        lines.change("a", Weather(commit=commit))
        assert asked(client, STARTUP) == STARTUP
        assert asked(client, query(b"INSERT")) == query(b"INSERT")
        client.sendall(query(b"COMMIT"))
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert (query(b"COMMIT") in bytes(echo.got)) is (commit is Commit.UNANSWERED)
        assert lines.commits == 1
