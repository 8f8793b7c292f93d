"""The simulator as a process of its own, that can be killed and started again on its file and port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from mgmtnode.testing.process import free_port

START_SECONDS = 30.0


class SimulatorProcess:
    """``start`` returns once it serves. The port stays the same over restarts."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory, self.options = directory, options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    @property
    def history_file(self) -> Path:
        return self.directory / "history.jsonl"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> SimulatorProcess:
        self.directory.mkdir(parents=True, exist_ok=True)
        command = (
            *(sys.executable, "-m", "services.simulator", "--data-dir", str(self.directory)),
            *("--port", str(self.port), "--history", str(self.history_file), *self.options),
        )
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        watchdog.cancel()
        assert line.startswith("ready "), (line, self._end())
        self.url = line.split()[1]
        return self

    def kill(self) -> None:
        """As ``kill -9``: it has no time for last words."""
        os.kill(self.pid, signal.SIGKILL)
        self._end()

    def stop(self) -> tuple[int, str]:
        """Asks it to stop; its exit code and what it had to complain about."""
        if self._process is None:
            return 0, ""
        os.kill(self.pid, signal.SIGTERM)
        return self._end()

    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.history_file.read_text().splitlines()]

    def _end(self) -> tuple[int, str]:
        assert self._process is not None
        process, self._process = self._process, None
        _, complaints = process.communicate(timeout=START_SECONDS)
        return process.returncode, complaints

    def __enter__(self) -> SimulatorProcess:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
