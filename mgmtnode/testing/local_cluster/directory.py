"""What a local cluster keeps in its directory: pid files, logs, secrets, and a list of what runs."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgmtnode.db.lock import DirectoryLock
from mgmtnode.testing.family import POLL, Identity

LEFTOVER_SECONDS = 15.0
ELSEWHERE = Path("/var/tmp")  # survives a reboot, and everybody may enter it


class ClusterDirectory:
    """``DIR/nodes/NAME.pid``, ``DIR/logs/NAME.log``, ``DIR/servers.json``, ``DIR/admin-token``, and the servers' data.

    One cluster at a time: ``enter`` takes the lock, and waits for what an earlier cluster left behind when it was
    killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = DirectoryLock(self.path)

    def enter(self) -> None:
        """Raises DirectoryTaken, and OSError where the directory cannot be written."""
        for each in (self.path, self.path / "nodes", self.path / "logs"):
            each.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        self._end_leftovers()
        for file in (self.path / "nodes").glob("*.pid"):
            file.unlink()

    def leave(self) -> None:
        self.servers_file.unlink(missing_ok=True)
        self._lock.release()

    @property
    def servers_file(self) -> Path:
        return self.path / "servers.json"

    @property
    def token_file(self) -> Path:
        return self.path / "admin-token"

    @property
    def config_file(self) -> Path:
        return self.path / "mgmtnode.toml"

    @property
    def password_file(self) -> Path:
        return self.path / "admin-password"

    @property
    def servers_path(self) -> Path:
        """Where the servers' data are: here, unless their accounts could not reach it, as below /root. They run as
        accounts of their own only if this process is root."""
        here = [each for each in (self.path, *self.path.parents) if each.exists()]
        closed = [each for each in here if not each.stat().st_mode & 0o001 and each != self.path]
        if os.geteuid() != 0 or not closed:
            return self.path
        return ELSEWHERE / f"mgmtnode-{hashlib.sha256(str(self.path).encode()).hexdigest()[:12]}"

    def remove_servers(self) -> None:
        """Forgets the servers' data; whoever removes the directory may not know of those elsewhere."""
        for name in ("postgres", "rabbitmq"):
            shutil.rmtree(self.servers_path / name, ignore_errors=True)
        if self.servers_path != self.path and self.servers_path.exists():
            self.servers_path.rmdir()

    def pid_file(self, name: str) -> Path:
        return self.path / "nodes" / f"{name}.pid"

    def log_file(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def node_directory(self, name: str) -> Path:
        return self.path / "nodes" / name

    def password(self) -> str:
        """The operator's, made for the first start: nodes take it when they find an empty database."""
        if not self.password_file.exists():
            write_secret(self.password_file, secrets.token_urlsafe(24))
        return self.password_file.read_text().strip()

    def token(self) -> str:
        """The operator's; empty if there is none yet."""
        return self.token_file.read_text().strip() if self.token_file.exists() else ""

    def list_servers(self, servers: dict[str, Any]) -> None:
        """Replaces ``servers.json`` in one step: who reads it sees all of the old or all of the new."""
        draft = self.servers_file.with_suffix(".new")
        draft.write_text(json.dumps(servers, indent=2) + "\n")
        draft.replace(self.servers_file)

    def _end_leftovers(self) -> None:
        """A cluster that was killed has keepers that end its processes; they need a moment, and may be dead too."""
        left = set(self._listed())
        until = time.monotonic() + LEFTOVER_SECONDS
        while left := {who for who in left if who.lives}:
            if time.monotonic() > until:
                for who in left:
                    who.signal(signal.SIGKILL)
            time.sleep(POLL)

    def _listed(self) -> Iterator[Identity]:
        try:
            kept = json.loads(self.servers_file.read_text())
        except (OSError, ValueError):
            return
        for entry in _entries(kept):
            yield Identity(entry["pid"], entry["started"])


def _entries(kept: Any) -> Iterator[dict[str, int]]:
    """Every object in ``kept``, however deep, that names a process."""
    if isinstance(kept, dict):
        if isinstance(kept.get("pid"), int) and isinstance(kept.get("started"), int):
            yield kept
        for value in kept.values():
            yield from _entries(value)


def write_secret(path: Path, text: str) -> None:
    """Only the owner may read it, from the first byte on."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(fd, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text + "\n")
