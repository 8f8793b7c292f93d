"""What nodes and agents wrote that nobody foresaw."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

UNFORESEEN = re.compile(
    r"Traceback \(most recent call last\)|was never retrieved|was destroyed but it is pending|never awaited"
    r"|Unhandled exception|Fatal error|Exception in (thread|callback)|Exception ignored"
)
ERROR = re.compile(r"\b(ERROR|CRITICAL)\b")
VARYING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+(\.\d+)?")
CONTEXT = 30


class Logs:
    """Of the processes of a cluster, each read once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {}
        self.errors = Counter[str]()

    def findings(self) -> Iterator[str]:
        """What was written since the last time."""
        for path in [*sorted(self._directory.glob("node-*.log")), self._directory / "agents.log"]:
            yield from self._of(path)

    def _of(self, path: Path) -> Iterator[str]:
        with path.open("rb") as log:
            log.seek(self._read.get(path, 0))
            lines = log.read().decode(errors="replace").splitlines()
            self._read[path] = log.tell()
        for number, line in enumerate(lines):
            if ERROR.search(line):
                self.errors[VARYING.sub("…", line)] += 1
            if UNFORESEEN.search(line):
                told = "\n    ".join(lines[max(0, number - 2) : number + CONTEXT])
                yield f"LOG: {path.name} has what nobody foresaw:\n    {told}"
