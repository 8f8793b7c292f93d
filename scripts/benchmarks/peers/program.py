"""A program that is compared, as the harness sees it: started, watched, and told what to do in JSON lines."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgmtnode.testing.family import Keeper, end_process
from scripts.benchmarks.rounds import PeerFailed

PROGRAMS = Path(__file__).parent / "programs"
START_SECONDS = 60.0
ANSWER_SECONDS = 300.0
TAIL = 400


class Program:
    """One process of ``programs/with_NAME.py``. ``about``: the versions it runs, as it told them."""

    def __init__(self, python: Path, name: str, words: Sequence[str], log: Path) -> None:
        self._log = log
        self.about = ""
        command = [str(python), str(PROGRAMS / f"with_{name}.py"), *words]
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self._keeper = Keeper(signal.SIGKILL, [self._process.pid])

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Raises PeerFailed."""
        self.about = str(self._read(START_SECONDS)["about"])

    def ask(self, **order: Any) -> dict[str, float]:
        """Gives an order and waits for what was measured. Raises PeerFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise PeerFailed(f"it ended: {self._tail()}") from None
        return self._read(ANSWER_SECONDS)

    def stop(self) -> None:
        end_process(self._process, signal.SIGKILL, 10.0)
        self._keeper.dismiss()

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise PeerFailed(f"it said nothing for {seconds:g} s: {self._tail()}")
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(f"it ended: {self._tail()}")
        return dict(json.loads(line))

    def _tail(self) -> str:
        return " ".join(self._log.read_text(errors="replace").split())[-TAIL:]
