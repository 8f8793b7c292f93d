"""Taking a private PostgreSQL back to what it was, as a failover does that lost commits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mgmtnode.testing.servers import PostgresServer


def save(server: PostgresServer, where: Path) -> None:
    """Copies its data; it is stopped meanwhile."""
    server.halt()
    subprocess.run(["cp", "-a", str(server.directory / "data"), str(where)], check=True)
    server.revive()


def recover(server: PostgresServer, saved: Path) -> None:
    """Kills it, and starts it with what was saved: a point-in-time recovery, on another timeline."""
    server.halt("kill")
    data = server.directory / "data"
    shutil.rmtree(data)
    subprocess.run(["cp", "-a", str(saved), str(data)], check=True)
    signal = data / "recovery.signal"
    subprocess.run(["cp", "-a", str(data / "PG_VERSION"), str(signal)], check=True)  # with its owner
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'false'\n")
    server.revive()
