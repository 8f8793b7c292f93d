"""Transactions on the event loop: who waits lets the others go on."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from greenlet import getcurrent  # type: ignore[import-untyped]
from sqlalchemy import text

from mgmtnode.db import green
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.errors import ApiError
from mgmtnode.ports import SystemClock

CONNECTIONS = 4
LOCK = text("select pg_advisory_xact_lock(7)")
WAITING = text(
    "select count(*) from pg_locks join pg_database d on d.oid = database"
    " where not granted and locktype = 'advisory' and datname = current_database()"
)


def on(url: str, story: Callable[[SqlDatabase], Awaitable[None]]) -> None:
    async def told() -> None:
        db = open_database(url, SystemClock(), connections=CONNECTIONS)
        try:
            await asyncio.wait_for(story(db), 60)
        finally:
            await db.close()

    asyncio.run(told())


def test_the_loop_goes_on_while_the_database_works_and_no_thread_is_needed(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        await db.write(lambda tx: tx.ping())
        before, locked = threading.active_count(), asyncio.Event()

        def keeps_all_waiting(tx: Tx) -> None:
            tx.execute(LOCK)
            locked.set()
            while tx.execute(WAITING).scalar_one() < CONNECTIONS - 1:
                green.pause(0.01)

        first = asyncio.ensure_future(db.write(keeps_all_waiting))
        await locked.wait()
        await asyncio.gather(first, *(db.write(lambda tx: tx.execute(LOCK)) for _ in range(CONNECTIONS - 1)))
        assert threading.active_count() <= before + CONNECTIONS  # which connected

    on(postgres_url, story)


def test_more_transactions_than_connections_wait_their_turn(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        at_work = most = 0
        all_taken = asyncio.Event()

        def work(tx: Tx) -> None:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            if at_work == CONNECTIONS:
                all_taken.set()
            here = getcurrent()
            assert isinstance(here, green.Green)
            here.waits_for(all_taken.wait())
            tx.ping()
            at_work -= 1

        await asyncio.gather(*(db.write(work) for _ in range(5 * CONNECTIONS)))
        assert (at_work, most) == (0, CONNECTIONS)

    on(postgres_url, story)


def test_what_fails_while_it_waits_fails_where_it_waits(postgres_url: str) -> None:
    async def story(db: SqlDatabase) -> None:
        def kill_myself(tx: Tx) -> None:
            tx.execute(text("select pg_terminate_backend(pg_backend_pid())"))

        with pytest.raises(ApiError, match=r"core\.database-unavailable"):
            await db.write(kill_myself)
        for _ in range(3 * CONNECTIONS):
            await db.write(lambda tx: tx.ping())

    on(postgres_url, story)


def test_a_server_that_does_not_answer_is_waited_for_some_seconds_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(green, "CONNECT_SECONDS", 2.0)
    deaf = socket.create_server(("127.0.0.1", 0))

    async def story(db: SqlDatabase) -> None:
        waits = asyncio.ensure_future(db.write(lambda tx: tx.ping()))
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not waits.done(), "it kept the loop"
        with pytest.raises(ApiError, match=r"core.database-unavailable.*within 2 s"):
            await waits

    with deaf:
        on(f"postgresql+psycopg2://nobody@127.0.0.1:{deaf.getsockname()[1]}/none", story)


def test_green_code_gets_results_and_exceptions_and_hears_of_cancellation() -> None:
    heard: list[str] = []

    def work(awaitable: Callable[[], Awaitable[Any]]) -> Any:
        here = getcurrent()
        assert isinstance(here, green.Green)
        try:
            return here.waits_for(awaitable())
        except BaseException as exc:
            heard.append(type(exc).__name__)
            raise

    async def fails() -> None:
        raise KeyError("no")

    async def story() -> None:
        assert await green.run(lambda: work(lambda: asyncio.sleep(0, "done"))) == "done"
        with pytest.raises(KeyError):
            await green.run(lambda: work(fails))
        waits = asyncio.ensure_future(green.run(lambda: work(lambda: asyncio.sleep(60))))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait([waits])
        assert waits.cancelled()

    asyncio.run(story())
    assert heard == ["KeyError", "CancelledError"]


def test_outside_of_a_greenlet_it_just_blocks(postgres_url: str) -> None:
    db = open_database(postgres_url, SystemClock(), connections=CONNECTIONS)
    begun = time.monotonic()
    db.run(lambda tx: tx.execute(text("select pg_sleep(0.5)")))
    green.pause(0.01)
    assert time.monotonic() - begun >= 0.5
    assert green.in_thread(threading.current_thread) is threading.current_thread()
    asyncio.run(db.close())
