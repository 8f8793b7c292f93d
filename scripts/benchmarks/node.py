"""The node under test: a process of its own on a free loopback port, watched through /proc."""

from __future__ import annotations

import http.client
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOOT_SECONDS = 60.0
CALL_SECONDS = 120.0
COUNTED = ("statements", "commits")
COUNTS = struct.Struct("qq")
TICKS = os.sysconf("SC_CLK_TCK")


class Refused(Exception):
    """The API did not do what the benchmark needs."""


class Node:
    """``mgmtnode dev`` on ``directory``. ``counted``: SQL statements and commits are counted, at some cost.
    ``variables``: more of its environment."""

    def __init__(
        self,
        directory: Path,
        *,
        hosts: int = 0,
        counted: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.directory, self.port = directory, _free_port()
        self._variables = dict(variables or {})
        self._hosts, self._counted = hosts, counted
        self._process: subprocess.Popen[bytes]
        self._counts: mmap.mmap | None = None
        self.ready_seconds = self.serving_seconds = 0.0

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the node said that it is ready. ``serving_seconds``: until /readyz said so."""
        self.directory.mkdir(parents=True, exist_ok=True)
        module = "scripts.benchmarks.counted" if self._counted else "scripts.benchmarks.plain"
        options = ["--port", str(self.port), "--data-dir", str(self.directory), "--hosts", str(self._hosts)]
        env = {**os.environ, "MGMTNODE_LOG_LEVEL": "info", **self._variables}
        if self._counted:
            self._counts = self._count_file(env)
        with (self.directory / "node.log").open("ab") as log:
            begin, offset = time.perf_counter(), log.tell()
            command = [sys.executable, "-m", module, "dev", *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        self.serving_seconds = self._until(self._serves, begin)
        self.ready_seconds = self._until(lambda: b"ready http" in self._log()[offset:], begin)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def token(self) -> str:
        return (self.directory / "admin-token").read_text().strip()

    def cpu(self) -> float:
        """Seconds of CPU so far, in steps of a hundredth."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> float:
        """MiB of memory now."""
        return self._status("VmRSS")

    def peak(self) -> float:
        """MiB of memory at most since ``forget_peak``."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def counts(self) -> dict[str, int]:
        """Statements and commits of the database so far."""
        assert self._counts is not None
        return dict(zip(COUNTED, COUNTS.unpack(self._counts[: COUNTS.size]), strict=True))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request to ``/v1``, waited for. Raises Refused."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        headers = {
            "authorization": f"Bearer {self.token}",
            "prefer": "wait=60",
            "content-type": "application/json",
        }
        connection.request(method, f"/v1{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 300 or answer.status == 202:
            raise Refused(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text) if text else None

    def _count_file(self, env: dict[str, str]) -> mmap.mmap:
        path = self.directory / "counts"
        path.write_bytes(bytes(COUNTS.size))
        env["BENCHMARK_COUNTS"] = str(path)
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), COUNTS.size)

    def _until(self, there: Any, begin: float) -> float:
        while not there():
            taken = time.perf_counter() - begin
            if self._process.poll() is not None or taken > BOOT_SECONDS:
                self._process.kill()
                raise Refused(f"the node did not start: {self._log()[-2000:].decode(errors='replace')}")
            time.sleep(0.005)
        return time.perf_counter() - begin

    def _serves(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _log(self) -> bytes:
        return (self.directory / "node.log").read_bytes()

    def _status(self, field: str) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
