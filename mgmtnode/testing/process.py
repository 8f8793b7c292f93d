"""A server process that belongs to this Python process: private ports, private directory, and no orphans.

Used by ``mgmtnode.testing.servers``. Nothing here touches a process it did not start: every signal goes to a
child, or to a pid whose start time is the one that was seen when it was a descendant.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, TypedDict

from mgmtnode.testing.family import POLL, Keeper, descendants, end_process, end_strays

StopMode = Literal["graceful", "immediate", "kill"]
"""Immediate: the server drops its clients and its work in memory; of PostgreSQL it is the mode of that name."""

HOST = "127.0.0.1"
PORTS = range(
    20_000, 32_000
)  # below the range the kernel picks outgoing ports from, so a restart finds its port free
LAUNCHES = 3
LOG_TAIL_LINES = 25


class ServerMissing(Exception):
    """A server's program is not installed. The message names the Debian package."""


class ServerFailed(Exception):
    """A server did not start, or a command on it failed. The message ends with the tail of its log."""


def free_port() -> int:
    """A loopback port nobody listens on now, and that this process has not handed out before."""
    for port in random.sample(PORTS, 200):
        if port not in _handed_out and _can_bind(port):
            _handed_out.add(port)
            return port
    raise ServerFailed(f"no free port on {HOST} between {PORTS.start} and {PORTS.stop}")


_handed_out: set[int] = set()


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class PrivateServer:
    """One server on a free loopback port with all its files in one directory.

    ``start()`` without a directory makes one that ``stop()`` removes. A directory that holds the server's
    data from an earlier run is used again. For root the server runs as ``account``, because PostgreSQL
    refuses root; the directory must then be one that this account can reach (so not below /root).
    """

    name: ClassVar[str]
    package: ClassVar[str]
    account: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    orphan_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_seconds: ClassVar[float] = 30.0
    stop_seconds: ClassVar[float] = 20.0

    def __init__(self, *, log_file: Path | None = None) -> None:
        """``log_file``: where the log goes instead of the server's directory."""
        self.directory = Path()
        self.port = 0
        self._log_file = log_file
        self._parent: Path | None = None
        self._owns_parent = False
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: Keeper | None = None

    # What a server is: the subclasses fill these in.

    def _find_program(self) -> None:
        """Raises ServerMissing."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Writes what the server needs before its first launch; again if ports had to be chosen anew."""

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return {}

    def _choose_ports(self) -> None:
        self.port = free_port()

    def _is_ready(self) -> bool:
        """Whether the server answers, asked again and again; an OSError counts as no."""
        raise NotImplementedError

    # What callers use.

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running: start() it first")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of a server that ended by itself; a signal's number is negative."""
        return None if self._process is None else self._process.poll()

    @property
    def log_file(self) -> Path:
        return self._log_file or self.directory / "server.log"

    def find(self) -> None:
        """Looks for the server's program and starts nothing. Raises ServerMissing."""
        self._find_program()

    def start(self, directory: Path | None = None) -> Self:
        """Starts the server in ``directory``/<name> and returns when it answers."""
        if self._process is not None:
            raise ServerFailed(f"{self.name} is already running")
        self._find_program()
        self._owns_parent = directory is None
        self._parent = (
            Path(tempfile.mkdtemp(prefix="mgmtnode-")) if directory is None else directory.resolve()
        )
        try:
            self._make_directory(self._parent)
            self._start_on_free_ports()
        except BaseException:
            self.stop("kill")
            raise
        return self

    def stop(self, mode: StopMode = "graceful") -> None:
        """Stops the server and whatever it started. May be called twice."""
        self._halt(mode)
        if self._owns_parent and self._parent is not None:
            shutil.rmtree(self._parent, ignore_errors=True)
        self._parent = None

    def restart(self, mode: StopMode = "graceful") -> None:
        """Stops and starts on the same port with the same data; also revives a server that died by itself."""
        self.halt(mode)
        self.revive()

    def halt(self, mode: StopMode = "graceful") -> None:
        """Stops the server and keeps its port and data for ``revive()``."""
        self._halt(mode)

    def revive(self) -> None:
        """Starts a halted server where it was."""
        if self._process is not None:
            raise ServerFailed(f"{self.name} is already running")
        if self._parent is None:
            raise ServerFailed(f"{self.name} was never started: start() it first")
        until = time.monotonic() + self.start_seconds
        wait_until(lambda: _can_bind(self.port), until, lambda: f"port {self.port} of {self.name} was taken")
        self._launch(until)

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # How.

    def _make_directory(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.directory = parent / self.name
        self.directory.mkdir(mode=0o700, exist_ok=True)
        owner = self._runs_as()
        if owner is None:
            return
        os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o011)  # the account needs to pass through, not to list
        if subprocess.run(["test", "-x", self.directory], **self._identity_arguments()).returncode:
            raise ServerFailed(
                f"user {owner.pw_name} cannot reach {self.directory}: give {self.name} a directory "
                "whose parents others may enter, or start it without a directory"
            )

    def _runs_as(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        for name in (self.account, "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        return None

    def _identity_arguments(self) -> _RunAs:
        owner = self._runs_as()
        if owner is None:
            return {}
        return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def _base_environment(self) -> dict[str, str]:
        # Only PATH is inherited: PGHOST, RABBITMQ_* or ERL_* of the caller would point at a shared server.
        path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": str(self.directory), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _run(self, command: Sequence[str | Path], stdin: str = "", seconds: float = 60.0) -> str:
        """Runs one program as the server's account and returns what it printed."""
        try:
            done = subprocess.run(
                [str(part) for part in command],
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
                cwd=self.directory,
                env=self._base_environment() | self._environment(),
                **self._identity_arguments(),
            )
        except subprocess.TimeoutExpired as exc:
            raise ServerFailed(f"{command[0]} did not end within {seconds:g} s") from exc
        if done.returncode:
            raise ServerFailed(f"{command[0]} ended with {done.returncode}:\n{done.stdout.strip()}")
        return done.stdout

    def _start_on_free_ports(self) -> None:
        until = time.monotonic() + self.start_seconds
        for launch in range(LAUNCHES):
            self._choose_ports()
            self._prepare()
            try:
                if not _can_bind(self.port):  # else a stranger there might answer for the server
                    raise _PortTaken(f"port {self.port} of {self.name} was taken")
                self._launch(until)
                return
            except _PortTaken:
                if launch == LAUNCHES - 1:
                    raise

    def _launch(self, until: float) -> None:
        with self.log_file.open("ab") as log:
            mark = log.tell()
            self._process = subprocess.Popen(
                list(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self._base_environment() | self._environment(),
                start_new_session=True,  # Ctrl-C is for the test run, which then stops its servers
                umask=0o077,
                **self._identity_arguments(),
            )
        doomed = self._parent if self._owns_parent else None
        self._keeper = Keeper(self.orphan_signal, [self._process.pid, *self._other_pids()], doomed)
        try:
            wait_until(
                self._came_up, until, lambda: f"{self.name} did not answer on port {self.port} in time"
            )
        except ServerFailed as exc:
            self._halt("kill")
            tail = self._log_since(mark)
            # No exit status tells a taken port from other faults, so the log has to.
            taken = any(words in tail for words in ("in use", "eaddrinuse"))
            raise (_PortTaken if taken else ServerFailed)(f"{exc}\n--- tail of its log ---\n{tail}") from exc

    def _other_pids(self) -> list[int]:
        return []

    def _came_up(self) -> bool:
        assert self._process is not None
        try:
            ready = self._is_ready()
        except OSError:
            ready = False
        status = (
            self._process.poll()
        )  # after the question: the answer may have been a stranger's on the same port
        if status is not None:
            raise ServerFailed(f"{self.name} ended with {status} while starting")
        return ready

    def _log_since(self, mark: int) -> str:
        with contextlib.suppress(OSError):
            text = self.log_file.read_bytes()[mark:].decode(errors="replace")
            return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])
        return ""

    def _halt(self, mode: StopMode) -> None:
        if self._process is None:
            return
        family = descendants(self._process.pid)
        end_process(self._process, self._signal(mode), self.stop_seconds)
        end_strays(family)
        if self._keeper is not None:
            self._keeper.dismiss()
        self._process = self._keeper = None

    def _signal(self, mode: StopMode) -> signal.Signals:
        match mode:
            case "graceful":
                return self.stop_signal
            case "immediate":
                return self.orphan_signal
            case "kill":
                return signal.SIGKILL


class _PortTaken(ServerFailed):
    """Somebody took a port between its choice and the server's bind."""


class _RunAs(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def wait_until(condition: Callable[[], bool], until: float, complaint: Callable[[], str]) -> None:
    """Polls ``condition`` till it holds; after ``until`` (monotonic) raises ServerFailed."""
    while not condition():
        if time.monotonic() > until:
            raise ServerFailed(complaint())
        time.sleep(POLL)
