"""The single writer of SQLite: transactions that wait for it share a commit, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import event, text

from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.errors import CONFLICT, NOT_FOUND, ApiError
from mgmtnode.ports import SystemClock

Work = Callable[[Tx], Any]


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    return run


@asynccontextmanager
async def database(directory: Path) -> AsyncIterator[SqlDatabase]:
    db = open_database(f"sqlite:///{directory / 'test.db'}", SystemClock())
    await db.write(lambda tx: tx.execute(text("CREATE TABLE t (a INTEGER PRIMARY KEY)")))
    try:
        yield db
    finally:
        await db.close()


def put(number: int) -> Work:
    return lambda tx: tx.execute(text(f"INSERT INTO t VALUES ({number})")).rowcount


def numbers(directory: Path) -> list[int]:
    """What a stranger sees: only what is committed."""
    with sqlite3.connect(directory / "test.db") as connection:
        return [row[0] for row in connection.execute("SELECT a FROM t ORDER BY a")]


async def together(db: SqlDatabase, *works: Work) -> list[Any]:
    """The outcomes of works that all waited while the writer was busy."""
    begun, gate = Event(), Event()

    def hold(tx: Tx) -> bool:
        begun.set()
        return gate.wait(10)

    busy = asyncio.create_task(db.write(hold))
    assert await asyncio.to_thread(begun.wait, 10)
    tasks = [asyncio.create_task(db.write(work)) for work in works]
    await asyncio.sleep(0)
    gate.set()
    assert await busy
    return await asyncio.gather(*tasks, return_exceptions=True)


@on_a_loop
async def test_those_that_wait_share_one_commit(tmp_path: Path) -> None:
    async with database(tmp_path) as db:
        commits: list[object] = []
        event.listen(db.engine, "commit", commits.append)
        assert await together(db, *(put(n) for n in range(10))) == [1] * 10
        assert len(commits) == 2  # that of the one that was waited for, and theirs
    assert numbers(tmp_path) == list(range(10))


@on_a_loop
async def test_one_that_fails_is_undone_alone(tmp_path: Path) -> None:
    def half(tx: Tx) -> None:
        put(100)(tx)
        raise NOT_FOUND.error("there is none")

    async with database(tmp_path) as db:
        first, failed, last = await together(db, put(1), half, put(2))
        assert (first, last) == (1, 1)
        assert isinstance(failed, ApiError)
        assert failed.code == NOT_FOUND.id
    assert numbers(tmp_path) == [1, 2]


@on_a_loop
async def test_a_collision_is_told_as_one(tmp_path: Path) -> None:
    async with database(tmp_path) as db:
        first, failed = await together(db, put(1), put(1))
        assert first == 1
        assert isinstance(failed, ApiError)
        assert failed.code == CONFLICT.id


@on_a_loop
async def test_what_is_told_as_done_is_committed(tmp_path: Path) -> None:
    seen: list[bool] = []

    async def write_and_look(db: SqlDatabase, number: int) -> None:
        await db.write(put(number))
        seen.append(number in numbers(tmp_path))

    async with database(tmp_path) as db:
        await asyncio.gather(*(write_and_look(db, n) for n in range(50)))
    assert seen == [True] * 50


@on_a_loop
async def test_a_commit_that_fails_fails_all(tmp_path: Path) -> None:
    def dangle(tx: Tx) -> None:
        tx.execute(text("CREATE TABLE u (b REFERENCES t DEFERRABLE INITIALLY DEFERRED)"))
        tx.execute(text("INSERT INTO u VALUES (99)"))  # found out by the commit

    async with database(tmp_path) as db:
        outcomes = await together(db, put(1), dangle, put(2))
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [True] * 3
        assert await db.write(put(3)) == 1
    assert numbers(tmp_path) == [3]


@on_a_loop
async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    async with database(tmp_path) as db:
        tasks = [asyncio.create_task(db.write(put(n))) for n in range(5)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == [1] * 5
    assert numbers(tmp_path) == list(range(5))


@on_a_loop
async def test_what_is_to_happen_after_the_commit_happens_after_it_and_in_order(tmp_path: Path) -> None:
    told: list[tuple[int, list[int]]] = []

    def work(number: int) -> Work:
        def run(tx: Tx) -> None:
            put(number)(tx)
            tx.after_commit(lambda: told.append((number, numbers(tmp_path))))

        return run

    async with database(tmp_path) as db:
        await together(db, *(work(n) for n in range(3)))
    assert told == [(n, [0, 1, 2]) for n in range(3)]
