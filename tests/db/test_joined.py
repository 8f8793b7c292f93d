"""On PostgreSQL BEGIN, and what nobody waits for, go with other statements, and nobody can tell."""

from __future__ import annotations

from asyncio import run
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg2 import extensions  # type: ignore[import-untyped]
from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from mgmtnode.bus.message import Event
from mgmtnode.db import green
from mgmtnode.db.engine import open_database
from mgmtnode.db.prepared import OFTEN
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import claim
from mgmtnode.errors import CONFLICT, ApiError
from mgmtnode.events import repository
from mgmtnode.ports import SystemClock

ONE, OTHER = (f"0190eeee-0000-7000-8000-{n:012x}" for n in (1, 2))
MESSAGE = text("select query from pg_stat_activity where pid = pg_backend_pid()")
FENCE = select(claim.c.fence).where(claim.c.resource_uuid == bindparam("of"))
RAISE = update(claim).where(claim.c.resource_uuid == bindparam("of")).values(fence=claim.c.fence + 1)
ADD = insert(claim)


def row(uuid: str, fence: int = 0) -> dict[str, Any]:
    return {"resource_uuid": uuid, "job_uuid": uuid, "fence": fence}


@pytest.fixture
def db(postgres_url: str) -> Iterator[SqlDatabase]:
    """All of it on one connection."""
    db = open_database(postgres_url, SystemClock(), connections=1)
    db.run(lambda tx: claim.create(tx.connection))
    yield db
    db.engine.dispose()


@pytest.fixture
def round_trips(db: SqlDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """One for each."""
    made: list[None] = []

    def wait(connection: Any) -> None:
        made.append(None)
        green.wait(connection)

    db.run(Tx.ping)
    extensions.set_wait_callback(wait)
    yield made
    extensions.set_wait_callback(green.wait)


def fence(db: SqlDatabase, uuid: str = ONE) -> int | None:
    return db.run(lambda tx: tx.execute(FENCE, {"of": uuid}).scalar())


def test_begin_goes_with_the_first_statement_and_later_ones_with_the_next(
    db: SqlDatabase, round_trips: list[None]
) -> None:
    def work(tx: Tx) -> str:
        tx.later(ADD, row(ONE), row(OTHER))
        tx.later(RAISE, {"of": ONE})
        return str(tx.execute(MESSAGE).scalar_one())

    message = db.run(work)
    assert [part.split()[0] for part in message.split("; ")] == [
        "BEGIN",
        "INSERT",
        "INSERT",
        "UPDATE",
        "select",
    ]
    assert len(round_trips) == 2
    assert (fence(db), fence(db, OTHER)) == (1, 0)


def test_what_is_left_goes_with_the_commit(db: SqlDatabase, round_trips: list[None]) -> None:
    db.run(lambda tx: tx.later(ADD, row(ONE, 7)))
    assert len(round_trips) == 1
    assert fence(db) == 7


def test_a_transaction_that_does_nothing_says_nothing(db: SqlDatabase, round_trips: list[None]) -> None:
    def gives_up(tx: Tx) -> None:
        tx.later(ADD, row(ONE))
        raise CONFLICT.error("no")

    db.run(lambda tx: None)
    with pytest.raises(ApiError):
        db.run(gives_up)
    assert not round_trips
    assert fence(db) is None


def test_what_a_statement_reads_and_writes_is_in_their_order(db: SqlDatabase) -> None:
    def work(tx: Tx) -> list[int]:
        tx.later(ADD, row(ONE))
        before = tx.execute(FENCE, {"of": ONE}).scalar_one()
        tx.later(RAISE, {"of": ONE})
        rowcount = tx.execute(RAISE, {"of": ONE}).rowcount
        return [before, rowcount, tx.execute(FENCE, {"of": ONE}).scalar_one()]

    assert db.run(work) == [0, 1, 2]


@pytest.mark.parametrize("and_then", ["a statement", "the commit"])
def test_one_that_fails_is_told_with_what_it_went_with_and_undoes_all(db: SqlDatabase, and_then: str) -> None:
    db.run(lambda tx: tx.later(ADD, row(OTHER)))

    def work(tx: Tx) -> None:
        tx.execute(ADD, row(ONE))
        tx.later(ADD, row(OTHER))
        if and_then == "a statement":
            tx.ping()
            pytest.fail("it was not told")

    with pytest.raises(ApiError) as refused:
        db.run(work)
    assert refused.value.code == CONFLICT.id
    assert (fence(db), fence(db, OTHER)) == (None, 0)


def test_statements_that_are_put_off_are_prepared_too(db: SqlDatabase) -> None:
    db.run(lambda tx: tx.execute(ADD, row(ONE)))
    for _ in range(OFTEN + 3):
        db.run(lambda tx: tx.later(RAISE, {"of": ONE}))
    assert fence(db) == OFTEN + 3
    prepared = text("select count(*) from pg_prepared_statements where statement like '%UPDATE claim%'")
    assert db.run(lambda tx: tx.execute(prepared).scalar_one()) == 1


def test_one_that_cannot_be_prepared_undoes_nothing_of_what_was_put_off(db: SqlDatabase) -> None:
    of_any_type = text("SELECT pg_typeof(:what)")

    def once(tx: Tx) -> None:
        tx.later(RAISE, {"of": ONE})
        tx.execute(of_any_type, {"what": 5})

    db.run(lambda tx: tx.execute(ADD, row(ONE)))
    for _ in range(OFTEN + 3):
        db.run(once)
    assert fence(db) == OFTEN + 3


def test_one_that_fails_is_told_whatever_is_to_be_prepared(db: SqlDatabase) -> None:
    db.run(lambda tx: tx.execute(ADD, row(ONE)))

    def work(tx: Tx) -> None:
        tx.later(ADD, row(ONE))
        tx.execute(RAISE, {"of": ONE})

    for _ in range(OFTEN + 3):
        with pytest.raises(ApiError) as refused:
            db.run(work)
        assert refused.value.code == CONFLICT.id
    assert fence(db) == 0


def test_many_rows_at_once_come_after_what_was_put_off(db: SqlDatabase) -> None:
    def work(tx: Tx) -> None:
        tx.later(ADD, row(ONE))
        tx.execute(RAISE.where(claim.c.fence == bindparam("was")), [{"of": ONE, "was": n} for n in range(3)])

    db.run(work)
    assert fence(db) == 3


def test_a_reader_begins_no_transaction(postgres_url: str) -> None:
    async def story() -> str:
        db = open_database(postgres_url, SystemClock())
        try:
            return await db.read(lambda tx: str(tx.execute(MESSAGE).scalar_one()))
        finally:
            await db.close()

    assert run(story()).startswith("select query")


class Happened(Event, frozen=True, kw_only=True):
    name = "joined.happened"


def test_an_event_of_what_is_not_there_is_refused(upgraded_postgres_url: str) -> None:
    db = open_database(upgraded_postgres_url, SystemClock())
    try:
        with pytest.raises(IntegrityError, match="null value"):
            db.run(lambda tx: repository.append(tx, Happened(resource_uuid=ONE)))
    finally:
        run(db.close())
