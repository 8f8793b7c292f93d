"""What the planner knows of a table that has just been filled."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import insert, text

from mgmtnode.db import statistics
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import claim
from mgmtnode.ports import SystemClock

ROWS = text("select cast(reltuples as int) from pg_class where relname = 'claim'")
COUNTED = text("select pg_stat_get_live_tuples(cast('claim' as regclass))")


@pytest.mark.parametrize("rows", [statistics.FEW - 1, statistics.FEW])
def test_a_filled_table_is_looked_at_once(upgraded_postgres_url: str, rows: int) -> None:
    def fill(tx: Tx) -> None:
        made = (f"0190ffff-0000-7000-8000-{n:012x}" for n in range(rows))
        tx.execute(insert(claim), [{"resource_uuid": uuid, "job_uuid": uuid, "fence": 0} for uuid in made])

    async def story() -> tuple[list[list[str]], int]:
        db = open_database(upgraded_postgres_url, SystemClock(), connections=2)
        try:
            await db.write(fill)
            while await db.write(lambda tx: tx.execute(COUNTED).scalar_one()) < rows:
                await asyncio.sleep(0.05)  # sessions tell what they did once a second
            looked = [await statistics.learn(db) for _ in range(2)]
            return looked, await db.read(lambda tx: tx.execute(ROWS).scalar_one())
        finally:
            await db.close()

    looked, known = asyncio.run(story())
    filled = rows >= statistics.FEW
    assert [("claim" in tables) for tables in looked] == [filled, False]
    assert (known == rows) is filled


def test_sqlite_needs_none(upgraded_sqlite_url: str) -> None:
    async def story() -> list[str]:
        db = open_database(upgraded_sqlite_url, SystemClock())
        try:
            return await statistics.learn(db)
        finally:
            await db.close()

    assert asyncio.run(story()) == []
