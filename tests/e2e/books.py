"""The books of an installation: what the database, the ledger and the hosts say must be the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from mgmtnode.testing.audit import books
from mgmtnode.testing.audit.hosts import of_file
from mgmtnode.testing.audit.records import Records


def check(data_dir: Path) -> None:
    """Asserts that nothing is open, lost, leaked or counted twice. The node must not be running."""
    with Records(f"sqlite:///{data_dir / 'mgmtnode.db'}", of_file(data_dir / "simulator.db")) as records:
        assert books.findings(records) == []
        assert records.rows("SELECT * FROM cleanup_debt") == []


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Of one SQLite file, whether the node runs or not."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()
