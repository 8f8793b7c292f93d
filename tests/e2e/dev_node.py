"""A real ``mgmtnode dev`` process, and the command line and HTTP that people use it with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from mgmtnode.testing.servers import free_port

READY_SECONDS = 60.0


class DevNode:
    """One development node on a port and a data directory that outlive the process."""

    def __init__(self, data_dir: Path, *, hosts: int = 4) -> None:
        self.data_dir, self.hosts, self.port = data_dir, hosts, free_port()
        self.process: subprocess.Popen[str] | None = None
        self.log: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.data_dir / "admin-token").read_text().strip()

    def start(self) -> None:
        words = [
            "dev",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.data_dir),
            "--hosts",
            str(self.hosts),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mgmtnode.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        reader = threading.Thread(target=self._collect, args=(self.process.stderr,), daemon=True)
        reader.start()
        timer = threading.Timer(READY_SECONDS, self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        timer.cancel()
        assert line.strip() == f"ready {self.url}", f"{line!r}\n{''.join(self.log[-40:])}"

    def kill(self) -> None:
        """As the kernel does it: no goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def http(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=60.0)

    def mnctl(self, *words: str, code: int = 0) -> str:
        """What ``mnctl`` prints; it must end with ``code``."""
        environment = os.environ | {"MGMTNODE_URL": self.url, "MGMTNODE_TOKEN": self.token}
        run = subprocess.run(
            [sys.executable, "-m", "mgmtnode.client.mnctl", *words],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            check=False,
        )
        assert run.returncode == code, (
            f"mnctl {' '.join(words)}: {run.returncode}\n{run.stdout}\n{run.stderr}"
        )
        return run.stdout

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code

    def _collect(self, stream: Any) -> None:
        try:
            for line in stream:
                self.log.append(line)
        except ValueError:
            return  # closed under us at the end
