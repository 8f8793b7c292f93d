"""The command ``mgmtnode`` with its SQL counted, into the file that BENCHMARK_COUNTS names.

With BENCHMARK_STATEMENTS, the statements and how often each ran are written to that file at the end.
"""

from __future__ import annotations

import atexit
import mmap
import os
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from mgmtnode.cli.main import main
from scripts.benchmarks.node import COUNTS


def count_sql(path: str) -> Counter[str]:
    """Counts from now on, of all engines, without the ends of mere reads; returns the statements."""
    statements, commits, seen = count(1), count(1), Counter[str]()
    with open(path, "r+b") as file:
        shared = mmap.mmap(file.fileno(), COUNTS.size)

    @event.listens_for(Engine, "after_cursor_execute")
    def _statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("BEGIN"):
            connection.info["writes"] = statement.endswith("IMMEDIATE")
            return
        seen[statement] += 1
        shared[:8] = next(statements).to_bytes(8, "little")

    @event.listens_for(Engine, "commit")
    def _commit(connection: Any) -> None:
        if connection.info.get("writes", True):
            shared[8:16] = next(commits).to_bytes(8, "little")

    return seen


def write_down(path: str, seen: Counter[str]) -> None:
    Path(path).write_text(
        "".join(f"{times:8} {' '.join(sql.split())}\n" for sql, times in seen.most_common())
    )


if __name__ == "__main__":
    counter = count_sql(os.environ["BENCHMARK_COUNTS"])
    if to := os.environ.get("BENCHMARK_STATEMENTS"):
        atexit.register(write_down, to, counter)
    main()
