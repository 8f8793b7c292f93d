"""The books of an installation: what the database, the ledger and the hosts say must be the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

OPEN = "('Pending', 'Running', 'RollingBack')"


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def check(data_dir: Path) -> None:
    """Asserts that nothing is open, lost, leaked or counted twice. The node must not be running."""
    book, hosts = data_dir / "mgmtnode.db", data_dir / "simulator.db"
    assert rows(book, f"SELECT uuid, api, state FROM job WHERE state IN {OPEN}") == []
    assert rows(book, "SELECT * FROM claim") == []
    assert rows(book, "SELECT * FROM cleanup_debt") == []
    recorded = rows(book, "SELECT host.management_ip, vm.uuid FROM vm JOIN host ON host.uuid = vm.host_uuid")
    assert sorted(rows(hosts, "SELECT host, uuid FROM sim_vm")) == sorted(recorded)
    _check_ledger(book)


def _check_ledger(book: Path) -> None:
    sums = "SELECT pool_uuid, kind, sum(amount) FROM allocation WHERE unit IS NULL GROUP BY 1, 2"
    held = {(pool, kind): amount for pool, kind, amount in rows(book, sums)}
    for pool, kind, used in rows(book, "SELECT resource_uuid, kind, used FROM pool"):
        assert used == held.get((pool, kind), 0), f"pool {kind} of {pool}"
    needed = rows(
        book,
        "SELECT host_uuid, sum(memory) FROM vm WHERE host_uuid IS NOT NULL GROUP BY 1 ORDER BY 1",
    )
    memory = "SELECT pool_uuid, sum(amount) FROM allocation WHERE kind = 'memory' GROUP BY 1 ORDER BY 1"
    assert rows(book, memory) == needed
    addresses = rows(book, "SELECT count(*), count(DISTINCT ip) FROM nic")[0]
    taken = rows(book, "SELECT count(*) FROM allocation WHERE unit IS NOT NULL AND kind = 'ip'")[0][0]
    assert addresses == (taken, taken)
