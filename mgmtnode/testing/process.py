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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, TypedDict

StopMode = Literal["graceful", "kill"]

HOST = "127.0.0.1"
PORTS = range(
    20_000, 32_000
)  # below the range the kernel picks outgoing ports from, so a restart finds its port free
LAUNCHES = 3
LOG_TAIL_LINES = 25
POLL = 0.02


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

    def __init__(self) -> None:
        self.directory = Path()
        self.port = 0
        self._parent: Path | None = None
        self._owns_parent = False
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

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
    def log_file(self) -> Path:
        return self.directory / "server.log"

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
        self._halt(mode)
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
        self._keeper = _start_keeper(self.orphan_signal, [self._process.pid, *self._other_pids()], doomed)
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
        family = _descendants(self._process.pid)
        end_process(
            self._process, self.stop_signal if mode == "graceful" else signal.SIGKILL, self.stop_seconds
        )
        _end_strays(family)
        _dismiss_keeper(self._keeper)
        self._process = self._keeper = None


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


def end_process(process: subprocess.Popen[bytes], sig: signal.Signals, seconds: float) -> None:
    """Signals a child of ours, waits, and kills it when it does not go. It is reaped on return."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


# A keeper is a shell that blocks on a pipe from this process. When this process dies, however it dies, the
# pipe ends and the keeper stops the server. PR_SET_PDEATHSIG would not do: it follows the starting *thread*.


def _start_keeper(sig: signal.Signals, pids: Sequence[int], doomed: Path | None) -> subprocess.Popen[bytes]:
    script = 'read -r word && exit; kill -s "$0" $2 2>/dev/null; test -z "$1" || { sleep 3; rm -rf "$1"; }'
    arguments = [sig.name.removeprefix("SIG"), str(doomed or ""), " ".join(map(str, pids))]
    return subprocess.Popen(
        ["/bin/sh", "-c", script, *arguments], stdin=subprocess.PIPE, start_new_session=True
    )


def _dismiss_keeper(keeper: subprocess.Popen[bytes] | None) -> None:
    if keeper is not None:
        with contextlib.suppress(BrokenPipeError):
            keeper.communicate(b"done\n")


_Identity = tuple[int, int]  # pid and start time: together they name a process for ever


def _descendants(root: int) -> set[_Identity]:
    children: dict[int, list[_Identity]] = {}
    for pid, parent, started in _processes():
        children.setdefault(parent, []).append((pid, started))
    found: set[_Identity] = set()
    queue = [root]
    while queue:
        for child in children.get(queue.pop(), ()):
            found.add(child)
            queue.append(child[0])
    return found


def _processes() -> Iterator[tuple[int, int, int]]:
    """(pid, parent pid, start time) of every process that is not a zombie."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, *rest = entry.read_text().rpartition(")")[2].split()
            if state not in "ZX":
                yield int(entry.parent.name), int(parent), int(rest[17])


def _end_strays(family: set[_Identity], seconds: float = 2.0) -> None:
    """Waits for processes whose parent has gone, then kills those that are left."""
    until = time.monotonic() + seconds
    while left := family & {(pid, started) for pid, _, started in _processes()}:
        if time.monotonic() > until:
            for pid, _ in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        time.sleep(POLL)
