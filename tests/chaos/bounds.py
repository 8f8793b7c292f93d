"""Whether what a node holds stays bounded: asked of the kernel and of ``/metrics``, every second."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.history import Entry, History, Measured, now, of
from tests.chaos.stage import MIB, Stage

EVERY_SECONDS = 1.0
IN_USE, CONNECTIONS = "mgmtnode_db_connections_in_use", "mgmtnode_db_connections_limit"
GAUGES = (
    IN_USE,
    CONNECTIONS,
    "mgmtnode_db_transactions_in_flight",
    "mgmtnode_transport_buffered_bytes",
    "mgmtnode_http_requests_in_flight",
    "mgmtnode_http_requests_waiting",
    "mgmtnode_bus_calls_pending",
    "mgmtnode_bus_calls_serving",
    "mgmtnode_bus_events_waiting",
    "mgmtnode_jobs_open",
)
GAUGE = re.compile(rf"^({'|'.join(GAUGES)})(?:{{[^}}]*}})? (\S+)$", re.M)
LIMITS: dict[str, float] = {
    "rss": 600 * MIB,
    "threads": 80,
    "descriptors": 1500,
    "mgmtnode_transport_buffered_bytes": 64 * MIB,
    "mgmtnode_http_requests_in_flight": 2000,
    "mgmtnode_bus_calls_pending": 20_000,
    "mgmtnode_bus_events_waiting": 20_000,
    "mgmtnode_jobs_open": 20_000,
}
"""Of a node under ten times the load. Far above what is seen, far below what a leak comes to."""


class Bounds:
    def __init__(self, stage: Stage, history: History) -> None:
        self._stage, self._history = stage, history
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bounds")
        self.peaks: dict[str, float] = defaultdict(float)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            for name, node in self._stage.cluster.nodes.items():
                if node.running:
                    self._measure(name, node.pid, node.url)

    def _measure(self, name: str, pid: int, url: str) -> None:
        try:
            figures = of_process(pid)
        except OSError:
            return  # it ended
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=1.0) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""  # it stands still, or is starting
        figures |= {name: float(value) for name, value in GAUGE.findall(text)}
        for figure, value in figures.items():
            self.peaks[figure] = max(self.peaks[figure], value)
        self._history.note(Measured(at=now(), process=name, figures=figures))


def of_process(pid: int) -> dict[str, float]:
    """Raises OSError once it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "rss": 1024 * _number(status, "VmRSS"),
        "threads": _number(status, "Threads"),
        "descriptors": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
    }


def _number(status: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.M)
    return float(found[1]) if found else 0.0


def of_measured(entries: list[Entry]) -> Iterator[str]:
    """Each figure that was too large, once."""
    worst: dict[tuple[str, str], float] = {}
    for measured in of(Measured, entries):
        limits = LIMITS | {IN_USE: measured.figures.get(CONNECTIONS, 0)}
        for name, limit in limits.items():
            if (value := measured.figures.get(name, 0)) > limit:
                worst[measured.process, name] = max(value, worst.get((measured.process, name), 0))
    for (process, name), value in worst.items():
        yield f"I20: {process} had {name} {value:g}"
