"""What simulated hosts did and refused, one JSON line each, for whoever checks a cluster from outside."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path

import msgspec

from mgmtnode.agents.port import NEVER, Order
from mgmtnode.agents.register import Watch
from mgmtnode.ports import Clock

log = logging.getLogger(__name__)
encode = msgspec.json.Encoder().encode
LONGEST = 1 << 16  # bytes of a line


class Line(msgspec.Struct):
    """``time``: wall clock, UTC; ``monotonic``: seconds on this machine's clock since its boot, the same for all
    its processes. ``outcome``: ``started`` (committed, the effect follows), ``done`` or ``failed`` (committed, the
    effect was before), ``sealed``, or refused as ``stale``, ``old`` or ``reused``; ``booted``, without a host, when
    the process began. ``order`` is (run_no, step, attempt)."""

    time: str
    monotonic: float
    outcome: str
    host: str
    resource: str
    fence: int
    order: Order
    action: str


class History:
    """Appends to ``path``. A line is with the operating system before what it tells of goes on, so the death of the
    process loses none. A ``started`` without its end was cut off: a ``booted`` follows, and then what became of it.

    Where no more can be written the process ends at once, as from a SIGKILL: a history with a gap proves nothing. Of a
    line that was begun then nothing stays.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        _cut_torn_line(self._file)
        self._clock = clock
        self._note("", "booted", "", 0, NEVER, "")

    def of(self, host: str) -> Watch:
        return partial(self._note, host)

    def close(self) -> None:
        os.close(self._file)

    def _note(self, host: str, outcome: str, resource: str, fence: int, order: Order, action: str) -> None:
        now, monotonic = self._clock.now().isoformat(timespec="microseconds"), self._clock.monotonic()
        line = Line(now, monotonic, outcome, host, resource, fence, order, action)
        text = encode(line) + b"\n"
        try:
            written = os.write(self._file, text)
        except OSError as error:
            log.critical("the history cannot be written: %s", error)
            os._exit(os.EX_IOERR)
        if written < len(text):
            log.critical("the history cannot be written: the disk is full")
            os._exit(os.EX_IOERR)


def _cut_torn_line(file: int) -> None:
    """What a death in the middle of a write, or a full disk, left of a last line: what it tells of never went on."""
    size = os.fstat(file).st_size
    tail = os.pread(file, LONGEST, max(0, size - LONGEST))
    os.ftruncate(file, size - len(tail) + tail.rfind(b"\n") + 1)
