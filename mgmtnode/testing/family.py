"""Processes of this machine by pid and start time, and the keepers that end what this process leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

POLL = 0.02


class Identity(NamedTuple):
    """Names a process for ever: a pid is used again, a pid with its start time is not."""

    pid: int
    started: int
    """Clock ticks after the boot of the machine."""

    @property
    def lives(self) -> bool:
        return identify(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Does nothing to a stranger that has the pid now."""
        if self.lives:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def identify(pid: int) -> Identity | None:
    """None: there is no such process, or only its exit status is left."""
    found = _read(Path(f"/proc/{pid}/stat"))
    return None if found is None else found[0]


class Keeper:
    """A shell that blocks on a pipe from this process. When this process dies, however it dies, the pipe ends and
    the keeper signals ``pids`` and removes ``doomed``. PR_SET_PDEATHSIG would not do: it follows the starting
    *thread*."""

    SCRIPT = 'read -r word && exit; kill -s "$0" $2 2>/dev/null; test -z "$1" || { sleep 3; rm -rf "$1"; }'

    def __init__(self, number: signal.Signals, pids: Sequence[int], doomed: Path | None = None) -> None:
        arguments = [number.name.removeprefix("SIG"), str(doomed or ""), " ".join(map(str, pids))]
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", self.SCRIPT, *arguments], stdin=subprocess.PIPE, start_new_session=True
        )

    def dismiss(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._shell.communicate(b"done\n")


def descendants(root: int) -> set[Identity]:
    """All processes below ``root``, without it."""
    children: dict[int, list[Identity]] = {}
    for who, parent in _processes():
        children.setdefault(parent, []).append(who)
    found: set[Identity] = set()
    queue = [root]
    while queue:
        for child in children.get(queue.pop(), ()):
            found.add(child)
            queue.append(child.pid)
    return found


def end_strays(family: set[Identity], seconds: float = 2.0) -> None:
    """Waits for processes to end by themselves, then kills those that are left."""
    until = time.monotonic() + seconds
    while left := {who for who in family if who.lives}:
        if time.monotonic() > until:
            for who in left:
                who.signal(signal.SIGKILL)
            return
        time.sleep(POLL)


def end_process(process: subprocess.Popen[bytes], sig: signal.Signals, seconds: float) -> None:
    """Signals a child of ours, waits, and kills it when it does not go. It is reaped on return."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _processes() -> Iterator[tuple[Identity, int]]:
    """Every process that is not a zombie, with its parent's pid."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        found = _read(entry)
        if found is not None:
            yield found


def _read(stat: Path) -> tuple[Identity, int] | None:
    try:
        state, parent, *rest = stat.read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else (Identity(int(stat.parent.name), int(rest[17])), int(parent))
