"""A job while it runs, on stderr: a block that is redrawn on a terminal, one line a change elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any, TextIO

from mgmtnode.client.mnctl.render import colourful, paint
from mgmtnode.client.records import JobState

MARKS = {
    "Succeeded": "✓",
    "Done": "✓",
    "Skipped": "–",
    "Running": "●",
    "Failed": "✗",
    "Undone": "↶",
    "Undoing": "↶",
}


class Progress:
    """The callback of ``Job.wait``. ``label`` is what the job is about, such as ``vm web-1``."""

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label, self._stream = label, stream or sys.stderr
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn, self._last, self._start = 0, "", time.monotonic()

    def __call__(self, job: JobState) -> None:
        if self._live:
            self._redraw(job)
        else:
            self._append(job)

    def close(self) -> None:
        """Takes the block away, so that what is printed next starts on a clean line."""
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._stream.flush()
            self._drawn = 0

    def _append(self, job: JobState) -> None:
        line = headline(self._label, job)
        if line != self._last:
            self._last = line
            print(line, file=self._stream, flush=True)

    def _redraw(self, job: JobState) -> None:
        self.close()
        if job.ended:
            return
        columns, rows = shutil.get_terminal_size()
        on = colourful(self._stream)
        lines = [f"{headline(self._label, job)}  {time.monotonic() - self._start:.0f} s"]
        lines += [f"  {MARKS.get(state, '·')} {name}" for name, state in steps(job)[-max(1, rows - 3) :]]
        state = str(job.get("state"))
        for i, line in enumerate(line[: columns - 1] for line in lines):
            self._stream.write((paint(line, state, on) if i == 0 else line) + "\n")
        self._stream.flush()
        self._drawn = len(lines)


def headline(label: str, job: JobState) -> str:
    parts = [f"{label}: {job.get('state')}"]
    if job.get("state") == "Pending" and job.get("queue_position"):
        parts.append(f"{job['queue_position']} ahead in the queue")
    if job.get("step") and not job.ended:
        parts.append(str(job["step"]))
    progress = job.get("progress")
    if isinstance(progress, int | float) and progress and not job.ended:
        parts.append(f"{progress:.0f} %")
    if job.get("cancel_requested") and not job.ended:
        parts.append("cancelling")
    return "  ".join(parts)


def steps(job: JobState) -> list[tuple[str, str]]:
    """(name, state) of each step, whichever of the two shapes the server tells them in."""
    return [_step(item) for item in job.get("steps") or []]


def _step(item: Any) -> tuple[str, str]:
    if isinstance(item, dict):
        return str(item.get("name") or item.get("step") or "?"), str(item.get("state") or "")
    return str(item), ""
