"""Below which run number nothing is at work any more, whatever is being accepted meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text, update

from mgmtnode.db import resource
from mgmtnode.db.engine import open_database
from mgmtnode.db.schema import upgrade
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import job
from mgmtnode.jobs import floor
from mgmtnode.jobs.floor import RunFloor
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.loader import discover
from mgmtnode.ports import SystemClock
from mgmtnode.schema import Resource

Story = Callable[[SqlDatabase, RunFloor], Coroutine[Any, Any, None]]
Play = Callable[[Story], None]
MACHINE = Resource(type="machine", plural="machines", inventory=None)  # type: ignore[arg-type]


@pytest.fixture
def play(database_url: str, tmp_path: Path) -> Play:
    async def run(story: Story) -> None:
        db = open_database(database_url or f"sqlite:///{tmp_path / 'test.db'}", SystemClock())
        await asyncio.to_thread(upgrade, db, discover())
        try:
            await story(db, RunFloor(db, JobRepository()))
        finally:
            await db.close()

    return lambda story: asyncio.run(run(story))


@pytest.fixture
def a_minute_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on, whoever looks twice has waited long enough in between."""
    return lambda: monkeypatch.setattr(floor, "SETTLED_SECONDS", 0.0)


def uuid(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012d}"


def accept(tx: Tx, number: int, *, about: int = 0, state: str = "Pending") -> int:
    """The run number of a new job."""
    row = {
        "uuid": uuid(number), "account_uuid": uuid(0), "caller": "{}", "api": "test", "payload": "{}",
        "resource_type": "machine", "resource_uuid": uuid(about or number), "slot": 0, "state": state,
        "deadline_at": tx.now, "accepted_at": tx.now,
    }  # fmt: skip
    return int(tx.execute(insert(job).returning(job.c.seq), row).scalar() or 0)


def end(tx: Tx, number: int) -> None:
    tx.execute(update(job).where(job.c.uuid == uuid(number)).values(state="Succeeded"))


def test_nothing_is_over_before_a_minute_has_passed(play: Play, a_minute_later: Callable[[], None]) -> None:
    async def story(db: SqlDatabase, runs: RunFloor) -> None:
        last = await db.write(lambda tx: accept(tx, 1, state="Succeeded"))
        assert [await runs.read() for _ in range(3)] == [0, 0, 0]
        a_minute_later()
        assert await runs.read() == last + 1

    play(story)


def test_the_floor_is_the_lowest_open_run(play: Play, a_minute_later: Callable[[], None]) -> None:
    async def story(db: SqlDatabase, runs: RunFloor) -> None:
        a_minute_later()
        first, second = [await db.write(lambda tx, n=n: accept(tx, n)) for n in (1, 2)]
        await runs.read()
        assert await runs.read() == first
        await db.write(lambda tx: end(tx, 1))
        assert await runs.read() == second
        await db.write(lambda tx: end(tx, 2))
        assert await runs.read() == second + 1

    play(story)


def test_what_was_accepted_since_the_last_look_is_not_below_the_floor(
    play: Play, a_minute_later: Callable[[], None]
) -> None:
    async def story(db: SqlDatabase, runs: RunFloor) -> None:
        a_minute_later()
        first = await db.write(lambda tx: accept(tx, 1, state="Succeeded"))
        await runs.read()
        await db.write(lambda tx: accept(tx, 2, state="Succeeded"))
        assert await runs.read() == first + 1

    play(story)


def test_only_resources_without_row_and_without_later_job_are_over(play: Play) -> None:
    async def story(db: SqlDatabase, runs: RunFloor) -> None:
        def prepare(tx: Tx) -> int:
            resource.create(tx, MACHINE, uuid(901), "lives", account=uuid(0))
            accept(tx, 1, about=902, state="Succeeded")
            border = accept(tx, 2, about=903, state="Succeeded")
            accept(tx, 3, about=904)
            return border

        border = await db.write(prepare)
        asked = [uuid(number) for number in (901, 902, 903, 904, 905)]
        assert await runs.over(asked, border) == {uuid(902), uuid(905)}
        assert await runs.over([], border) == set()

    play(story)


@pytest.mark.integration
def test_a_number_that_was_drawn_and_not_committed_yet_stays_above_the_floor(
    upgraded_postgres_url: str, a_minute_later: Callable[[], None]
) -> None:
    async def story() -> None:
        db = open_database(upgraded_postgres_url, SystemClock())
        runs = RunFloor(db, JobRepository())
        drawn = await db.read(lambda tx: int(tx.execute(text("SELECT nextval('job_seq_seq')")).scalar() or 0))
        await db.write(lambda tx: accept(tx, 1, state="Succeeded"))
        assert await runs.read() <= drawn
        assert await runs.read() <= drawn  # though the higher one is there, and has ended
        await db.close()

    asyncio.run(story())
