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
RECORD = re.compile(r"^(?=\d\d:\d\d:\d\d\.\d{3} )", re.M)
SHOWN = 15  # lines of a record, from its beginning and its end


class Logs:
    """Of the processes of a cluster, each read once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {}
        self._found = set[str]()
        self.errors = Counter[str]()

    def findings(self) -> Iterator[str]:
        """What was written since the last time."""
        for path in [*sorted(self._directory.glob("node-*.log")), self._directory / "agents.log"]:
            yield from self._of(path)

    def _of(self, path: Path) -> Iterator[str]:
        with path.open("rb") as log:
            log.seek(self._read.get(path, 0))
            text = log.read().decode(errors="replace")
            self._read[path] = log.tell()
        for record in RECORD.split(text):
            head = record.partition("\n")[0]
            if ERROR.search(head):
                self.errors[VARYING.sub("…", head)] += 1
            if UNFORESEEN.search(record) and not self._known(record):
                yield f"LOG: {path.name} has what nobody foresaw:\n{_shortened(record)}"

    def _known(self, record: str) -> bool:
        """Whether one like it, with other numbers, was found before."""
        alike = VARYING.sub("…", record)
        known = alike in self._found
        self._found.add(alike)
        return known


def _shortened(record: str) -> str:
    lines = record.splitlines()
    if len(lines) > 2 * SHOWN:
        lines = [*lines[:SHOWN], "…", *lines[-SHOWN:]]
    return "\n".join(f"    {line}" for line in lines)
