"""A small disk that can be made full: a tmpfs, in a mount namespace of the campaign's own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

MARK = "MGMTNODE_CHAOS_NAMESPACE"
BALLAST = "ballast"


def enter_namespace(module: str) -> None:
    """Runs this program again in a mount namespace of its own, if that is allowed (root, with CAP_SYS_ADMIN): what is
    mounted there is gone with the last process in it. Returns where it is not allowed, and in the namespace."""
    if MARK in os.environ or os.geteuid() != 0:
        return
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        return
    os.environ[MARK] = "1"
    os.execvp("unshare", [*unshare, sys.executable, "-m", module, *sys.argv[1:]])


class Disk:
    """``size`` in bytes. Where nothing can be mounted it is part of the disk of everybody, and never full."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._path: Path | None = None

    @property
    def small(self) -> bool:
        return self._path is not None

    def mount(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if MARK not in os.environ:
            return
        options = f"size={self._size},mode=755"
        if not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]).returncode:
            self._path = path

    def unmount(self) -> None:
        if self._path is not None:
            subprocess.run(["umount", "--lazy", self._path], check=False)
            self._path = None

    def fill(self) -> None:
        """Until not a byte is left, whoever writes meanwhile."""
        assert self._path is not None
        with (self._path / BALLAST).open("ab", buffering=0) as file:
            piece = 1 << 20
            while piece:
                try:
                    file.write(bytes(piece))
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise
                    piece //= 2

    def free(self) -> None:
        if self._path is not None:
            (self._path / BALLAST).unlink(missing_ok=True)
