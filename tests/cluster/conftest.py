"""Real nodes in processes of their own on one real PostgreSQL database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest

PATIENCE = 60.0


class Process:
    """``mgmtnode dev`` under a name of its own, on the database of the others."""

    def __init__(self, directory: Path, name: str, database: str, **variables: str) -> None:
        words = ["dev", "--port", "0", "--hosts", "2", "--data-dir", str(directory)]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MGMTNODE_")}
        more = {"MGMTNODE_NODE_NAME": name, "MGMTNODE_DATABASE_URL": database, "PYTHONUNBUFFERED": "1"}
        self.directory, self.url, self._log = directory, "", list[str]()
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "mgmtnode.cli", *words],
            env=kept | more | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        self._log.extend(self.popen.stderr)

    def ready(self) -> Process:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline().split()
        assert line[:1] == ["ready"], self.ended()
        self.url = line[1]
        return self

    def ended(self) -> tuple[int, str]:
        """(exit code, what it wrote to standard error), once it has ended."""
        code = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code, "".join(self._log)

    @property
    def said(self) -> str:
        """What it has written to standard error up to now."""
        return "".join(self._log)

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def http(self) -> httpx.Client:
        token = (self.directory / "admin-token").read_text().strip()
        return httpx.Client(
            base_url=f"{self.url}/v1", headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE
        )

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


Start = Callable[..., Process]


@pytest.fixture
def start(upgraded_postgres_url: str, tmp_path: Path) -> Iterator[Start]:
    """``start("a")`` starts a node of this name; it may be refused, so ask for ``.ready()`` or ``.ended()``."""
    started: list[Process] = []

    def begin(name: str, **variables: str) -> Process:
        directory = tmp_path / f"{name}-{len(started)}"
        started.append(Process(directory, name, upgraded_postgres_url, **variables))
        return started[-1]

    yield begin
    for process in started:
        process.close()
