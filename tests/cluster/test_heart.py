"""The thread that beats: a slow database is not a loop that hangs, and a loop that hangs gets no new lease."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mgmtnode.cluster.heart import LOOP_SECONDS, ThreadHeart
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase
from mgmtnode.errors import DATABASE_DOWN
from mgmtnode.ports import SystemClock

PATIENCE = 30.0


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def db(upgraded_postgres_url: str) -> Iterator[SqlDatabase]:
    db = open_database(upgraded_postgres_url, SystemClock())
    yield db
    db.engine.dispose()


async def until(event: threading.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        while not event.is_set():
            await asyncio.sleep(0.01)


def test_a_database_that_answers_late_costs_no_beat(
    db: SqlDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by chaos: after each lost connection the next beat was left out, as if the loop had hung meanwhile."""
    clock, beats, enough = Hands(), [], threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def pulse(execute: Callable[..., Any]) -> Any:
        beats.append(clock.seconds)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loops[0]).result(PATIENCE)  # it does not hang
        clock.seconds += LOOP_SECONDS + 5
        if len(beats) >= 20:
            enough.set()
        raise DATABASE_DOWN.error("no answer")

    async def story() -> None:
        loops.append(asyncio.get_running_loop())
        heart = ThreadHeart(db, clock, name="a", label="mn/a/1")
        heart.start(pulse, lambda sent_at, beat: None)
        await until(enough)
        await heart.stop()

    with caplog.at_level(logging.ERROR, "mgmtnode.cluster"):
        asyncio.run(story())
    assert caplog.records == []


def test_a_loop_that_hangs_gets_no_new_lease(db: SqlDatabase, caplog: pytest.LogCaptureFixture) -> None:
    clock, beats, first, said = Hands(), [], threading.Event(), threading.Event()

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.set()

    def pulse(execute: Callable[..., Any]) -> Any:
        beats.append(clock.seconds)
        first.set()
        return None

    async def story() -> None:
        heart = ThreadHeart(db, clock, name="a", label="mn/a/1")
        heart.start(pulse, lambda sent_at, beat: None)
        await until(first)
        for _ in range(600):  # the loop stands still, and time goes on
            clock.seconds += 1.0
            if said.wait(0.1):
                break
        count = len(beats)
        assert said.is_set() and count <= LOOP_SECONDS + 3
        await heart.stop()

    logger = logging.getLogger("mgmtnode.cluster.heart")
    logger.addHandler(handler := Said(logging.ERROR))
    try:
        asyncio.run(story())
    finally:
        logger.removeHandler(handler)
    assert "stood still" in caplog.text
