"""One node a data directory: SQLite serves a single process, and says so instead of failing later."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class DirectoryTaken(Exception):
    """Another node uses the directory. The text says which process."""


class DirectoryLock:
    """An advisory lock on ``DIR/node.lock``; the kernel drops it when the process dies, however it dies."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "node.lock"
        self._fd: int | None = None

    def take(self) -> None:
        """Raises DirectoryTaken, or OSError when the directory cannot be written."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise DirectoryTaken(
                f"{self._path.parent} is in use by a running node (pid {holder or 'unknown'}); an embedded database "
                "serves one node. Stop that one, or give this one another --data-dir, or use PostgreSQL"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
