"""Transactions: what is tried again, what callers are told, and what a cancelled caller may rely on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, event, insert, select, text

from mgmtnode.db.base import JsonOf, UtcTime
from mgmtnode.db.engine import open_database
from mgmtnode.db.green import in_thread
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.errors import ApiError
from mgmtnode.ports import SystemClock
from mgmtnode.schema import Data


class Point(Data):
    x: int
    name: str = ""


tables = MetaData()
value = Table(
    "value", tables, Column("id", Integer, primary_key=True), Column("at", UtcTime), Column("point", JsonOf(Point)),
    Column("n", Integer),
)  # fmt: skip


@pytest.fixture
def url(database_url: str, tmp_path: Path) -> str:
    return database_url or f"sqlite:///{tmp_path / 'test.db'}"


def on(url: str, story: Callable[[SqlDatabase], Coroutine[Any, Any, None]]) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[SqlDatabase]:
        db = open_database(url, SystemClock(), connections=4)
        try:
            await db.write(lambda tx: tables.create_all(tx.connection))
            yield db
        finally:
            await db.close()

    async def run() -> None:
        async with asyncio.timeout(50), opened() as db:
            await story(db)

    asyncio.run(run())


def end_backend(url: str, pid: int) -> None:
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))


def put(id_: int, **values: Any) -> Callable[[Tx], None]:
    return lambda tx: tx.execute(insert(value).values(id=id_, **values)) and None


MOMENTS = [
    datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
]


def test_a_moment_comes_back_as_it_was_and_sorts_by_time(url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        for number, at in enumerate(MOMENTS):
            await db.write(put(number, at=at))
        rows = await db.read(lambda tx: tx.execute(select(value.c.at).order_by(value.c.at)).scalars().all())
        assert rows == sorted(MOMENTS)
        assert all(at.utcoffset() == timedelta(0) for at in rows)
        later = select(value.c.id).where(value.c.at > MOMENTS[1])
        assert set(await db.read(lambda tx: tx.execute(later).scalars().all())) == {0, 3, 4}

    on(url, story)


def test_a_json_value_comes_back_as_its_type(url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        points = [Point(x=1, name='quoted "ü" \\ 🐘'), None]
        for number, point in enumerate(points):
            await db.write(put(number, point=point))
        found = await db.read(
            lambda tx: tx.execute(select(value.c.point).order_by(value.c.id)).scalars().all()
        )
        assert found == points

    on(url, story)


def test_what_fails_leaves_nothing_and_is_not_told_as_committed(url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        told: list[int] = []

        def work(tx: Tx) -> None:
            tx.after_commit(lambda: told.append(1))
            put(1)(tx)
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            await db.write(work)
        assert await db.read(lambda tx: tx.execute(select(value.c.id)).all()) == []
        await db.write(lambda tx: tx.after_commit(lambda: told.append(2)))
        assert told == [2]

    on(url, story)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("insert into value (id) values (1)", "core.conflict"),
        ("insert into below (above) values (99)", "core.in-use"),
        ("delete from above where id = 1", "core.in-use"),
        ("update above set n = -1", "core.conflict"),
    ],
)
def test_a_broken_constraint_is_told_by_its_kind(url: str, statement: str, code: str) -> None:
    async def story(db: SqlDatabase) -> None:
        await db.write(put(1))
        for setup in (
            "create table above (id integer primary key, n integer check (n >= 0))",
            "create table below (above integer references above (id) on delete restrict)",
            "insert into above values (1, 1)",
            "insert into below values (1)",
        ):
            await db.write(lambda tx, setup=setup: tx.execute(text(setup)))  # type: ignore[misc]
        with pytest.raises(ApiError) as refused:
            await db.write(lambda tx: tx.execute(text(statement)))
        assert refused.value.code == code

    on(url, story)


def test_a_wrong_statement_is_a_bug_and_not_an_outage(url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        with pytest.raises(Exception, match="nowhere") as raised:
            await db.write(lambda tx: tx.execute(text("select * from nowhere")))
        assert not isinstance(raised.value, ApiError)

    on(url, story)


def test_a_cancelled_caller_goes_only_when_its_transaction_has_ended(url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        begun, go, told = threading.Event(), threading.Event(), asyncio.Event()

        def slow(tx: Tx) -> None:
            put(1)(tx)
            tx.after_commit(told.set)
            begun.set()
            assert in_thread(lambda: go.wait(10))

        task = asyncio.ensure_future(db.write(slow))
        assert await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told.is_set()
        assert await db.read(lambda tx: tx.execute(select(value.c.id)).scalars().all()) == [1]

    on(url, story)


def test_sixty_four_writers_at_once_all_get_through(url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        await db.write(put(1, n=0))

        def increment(tx: Tx) -> None:
            tx.execute(value.update().where(value.c.id == 1).values(n=value.c.n + 1))

        async def writer() -> None:
            for _ in range(5):
                await db.write(increment)
                await db.read(lambda tx: tx.execute(select(value.c.n)).scalar())

        await asyncio.gather(*(writer() for _ in range(64)))
        assert await db.read(lambda tx: tx.execute(select(value.c.n)).scalar()) == 320

    on(url, story)


def test_sixty_four_threads_share_a_database(url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        def increment(tx: Tx) -> None:
            tx.execute(value.update().values(n=value.c.n + 1))

        await db.write(put(1, n=0))
        one_after_the_other = threading.Semaphore(1 if db.dialect == "sqlite" else 4)

        def thread() -> None:
            with one_after_the_other:
                db.run(increment)

        await asyncio.gather(*(asyncio.to_thread(thread) for _ in range(64)))
        assert await db.read(lambda tx: tx.execute(select(value.c.n)).scalar()) == 64

    on(url, story)


def test_two_transactions_that_lock_each_other_out_both_end(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        for id_ in (1, 2):
            await db.write(put(id_, n=0))
        both, attempts = threading.Barrier(2, timeout=10), [0]

        def locks(first: int, second: int) -> Callable[[Tx], None]:
            seen = [0]

            def work(tx: Tx) -> None:
                seen[0] += 1
                attempts[0] += 1
                tx.execute(value.update().where(value.c.id == first).values(n=value.c.n + 1))
                if seen[0] == 1:
                    in_thread(both.wait)
                tx.execute(value.update().where(value.c.id == second).values(n=value.c.n + 1))

            return work

        await asyncio.gather(db.write(locks(1, 2)), db.write(locks(2, 1)))
        assert attempts[0] == 3
        assert await db.read(lambda tx: tx.execute(select(value.c.n)).scalars().all()) == [2, 2]

    on(postgres_url, story)


def test_a_statement_that_takes_too_long_is_a_timeout_and_not_an_outage(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        with pytest.raises(ApiError) as refused:
            await db.write(
                lambda tx: tx.execute(text("set local statement_timeout = 50; select pg_sleep(5)"))
            )
        assert refused.value.code == "core.database-slow"

    on(postgres_url, story)


def test_connections_that_died_while_idle_are_replaced_unseen(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        other = open_database(postgres_url, SystemClock(), label="other")
        await asyncio.gather(
            *(db.read(lambda tx: tx.execute(text("select pg_sleep(0.05)"))) for _ in range(4))
        )
        kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'mn/node'"
        await other.write(lambda tx: tx.execute(text(kill)))
        await other.close()
        await asyncio.gather(*(db.write(put(n)) for n in range(4)))
        assert len(await db.read(lambda tx: tx.execute(select(value.c.id)).all())) == 4

    on(postgres_url, story)


def test_a_connection_lost_in_the_middle_is_an_outage_after_one_more_attempt(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        attempts = [0]

        def suicide(tx: Tx) -> None:
            attempts[0] += 1
            tx.execute(text("select pg_terminate_backend(pg_backend_pid())"))

        with pytest.raises(ApiError) as refused:
            await db.write(suicide)
        assert (refused.value.code, attempts[0]) == ("core.database-unavailable", 2)

    on(postgres_url, story)


def test_a_connection_that_broke_after_a_read_is_given_back_all_the_same(postgres_url: str) -> None:
    """What was read counts, and no place in the pool is lost."""

    def read_and_lose_it(tx: Tx) -> int:
        pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
        end_backend(postgres_url, pid)
        return int(pid)

    async def story(db: SqlDatabase) -> None:
        pids = [await db.read(read_and_lose_it) for _ in range(8)]  # more than the pool has
        assert len(set(pids)) == len(pids)
        assert await db.read(lambda tx: tx.execute(text("SELECT 1")).scalar_one()) == 1

    on(postgres_url, story)


def test_a_connection_that_breaks_as_it_is_made_is_an_outage(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        broken = [0]

        def lose(connection: Any, record: Any) -> None:
            if not broken[0]:
                broken[0] = connection.info.backend_pid
                end_backend(postgres_url, broken[0])

        db.engine.dispose()
        event.listen(db.engine, "connect", lose)
        with pytest.raises(ApiError) as refused:
            await db.read(lambda tx: tx.now)
        assert refused.value.code == "core.database-unavailable" and broken[0]
        await db.read(lambda tx: tx.now)
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]

    on(postgres_url, story)


def test_a_pool_without_a_free_connection_is_an_outage(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        held = [db.engine.connect() for _ in range(6)]
        try:
            with pytest.raises(ApiError, match="all database connections are in use"):
                await db.read(lambda tx: tx.now)
        finally:
            for connection in held:
                connection.close()

    on(postgres_url, story)


def test_nobody_listening_is_an_outage() -> None:
    async def story() -> None:
        db = open_database("postgresql+psycopg2://x@127.0.0.1:9/x", SystemClock())
        with pytest.raises(ApiError) as refused:
            await db.read(lambda tx: tx.now)
        assert (refused.value.code, refused.value.problem.retryable) == ("core.database-unavailable", True)
        await db.close()

    asyncio.run(story())


def test_a_reader_cannot_write_on_sqlite(tmp_path: Path) -> None:
    async def story(db: SqlDatabase) -> None:
        with pytest.raises(ApiError, match="readonly"):
            await db.read(put(1))

    on(f"sqlite:///{tmp_path / 'test.db'}", story)
