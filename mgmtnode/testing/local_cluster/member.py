"""A process of a local cluster: a node, the hosts' agents, the balancer."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mgmtnode.testing.family import Identity, Keeper, end_process, identify
from mgmtnode.testing.process import HOST, LOG_TAIL_LINES, ServerFailed, wait_until

START_SECONDS = 60.0
STOP_SECONDS = 60.0
ANSWER_SECONDS = 3.0


class Member:
    """One program on one loopback port. It is killed when this process dies, and only ``start`` makes it run again.

    ``ready_path``: what its HTTP answers with 200 once it serves; empty, an accepted connection is enough.
    """

    def __init__(
        self,
        name: str,
        port: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        log_file: Path,
        pid_file: Path | None = None,
        ready_path: str = "",
    ) -> None:
        self.name, self.port, self.command, self.environment = name, port, list(command), dict(environment)
        self.log_file, self._pid_file, self._ready_path = log_file, pid_file, ready_path
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: Keeper | None = None
        self._mark = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that was started last, even if it has ended."""
        if self._process is None:
            raise ServerFailed(f"{self.name} was never started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None: it runs, or was never started. A signal's number is negative."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Launches it and returns at once; ``wait_ready`` waits until it serves."""
        if self.running:
            raise ServerFailed(f"{self.name} is already running")
        self._release()
        with self.log_file.open("ab") as log:
            self._mark = log.tell()
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for whoever started the cluster
            )
        self._keeper = Keeper(signal.SIGKILL, [self._process.pid])
        if self._pid_file is not None:
            self._pid_file.write_text(f"{self._process.pid}\n")

    def restart(self) -> None:
        """Ends it if it runs, and returns once it serves again. Raises ServerFailed."""
        self.kill()
        self.start()
        self.wait_ready()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Raises ServerFailed, with the tail of its log, when it ends or does not serve in time."""
        until = time.monotonic() + seconds
        wait_until(self._came_up, until, lambda: f"{self.name} did not serve on port {self.port} in time")

    @property
    def ready(self) -> bool:
        """Whether it serves now."""
        if not self._ready_path:
            return self._accepts()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """As the kernel does it: no goodbye."""
        self._end(signal.SIGKILL)

    def terminate(self, seconds: float = STOP_SECONDS) -> int:
        """Tells it to stop in good order and waits; returns its exit code. After ``seconds`` it is killed."""
        self.resume()  # a process that stands still would never see it
        return self._end(signal.SIGTERM, seconds)

    def pause(self) -> None:
        """It stands still, as a machine does whose hypervisor stopped it; returns once it does."""
        self.send(signal.SIGSTOP)
        wait_until(
            lambda: self._state() in "TZX", time.monotonic() + 10, lambda: f"{self.name} does not stand still"
        )

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Does nothing to a process that has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit code, once it has ended by itself. Raises ServerFailed if it does not."""
        try:
            return self._started.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"{self.name} still runs after {seconds:g} s") from None

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The end of what it wrote since its last start."""
        with self.log_file.open("rb") as log:
            log.seek(self._mark)
            tail = deque((line.decode(errors="replace").rstrip() for line in log), maxlen=lines)
        return "\n".join(tail)

    def described(self) -> dict[str, Any]:
        """For ``servers.json``."""
        who = identify(self.pid) or Identity(self.pid, 0)
        return {"pid": who.pid, "started": who.started, "port": self.port, "url": self.url}

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerFailed(f"{self.name} was never started")
        return self._process

    def _end(self, number: signal.Signals, seconds: float = STOP_SECONDS) -> int:
        if self._process is None:
            return 0
        end_process(self._process, number, seconds)
        self._release()
        return self._process.returncode

    def _release(self) -> None:
        if self._keeper is not None:
            self._keeper.dismiss()
            self._keeper = None
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)

    def _came_up(self) -> bool:
        ready = self.ready
        if (code := self.exit_code) is not None:
            self._release()
            raise ServerFailed(
                f"{self.name} ended with {code} while starting\n--- tail of its log ---\n{self.log_tail()}"
            )
        return ready

    def _accepts(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), ANSWER_SECONDS).close()
        except OSError:
            return False
        return True

    def _state(self) -> str:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return "X"
        return stat.rpartition(")")[2].split()[0]


def clean_environment() -> dict[str, str]:
    """This process's environment without what would point a node at another database, broker or port."""
    ours = ("MGMTNODE_DATABASE_", "MGMTNODE_BUS_", "MGMTNODE_NODE_", "MGMTNODE_API_", "MGMTNODE_CONFIG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONUNBUFFERED": "1"}
