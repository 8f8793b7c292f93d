"""Statements that come often are prepared on PostgreSQL, and nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import bindparam, insert, select, text, update

from mgmtnode.db.engine import open_database
from mgmtnode.db.prepared import OFTEN
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import claim
from mgmtnode.errors import ApiError
from mgmtnode.ports import SystemClock

ENOUGH = OFTEN + 3
ONE, OTHER = (f"0190dddd-0000-7000-8000-{n:012x}" for n in (1, 2))
RAISE = (
    update(claim)
    .where(claim.c.resource_uuid == bindparam("of"))
    .values(fence=claim.c.fence + bindparam("more"))
    .returning(claim.c.fence)
)
PREPARED = text("SELECT statement FROM pg_prepared_statements")


@pytest.fixture
def db(postgres_url: str) -> Iterator[SqlDatabase]:
    """All of it on one connection."""
    db = open_database(postgres_url, SystemClock(), connections=1)
    db.run(lambda tx: claim.create(tx.connection))
    db.run(lambda tx: tx.execute(insert(claim), {"resource_uuid": ONE, "job_uuid": ONE, "fence": 0}))
    yield db
    db.engine.dispose()


def prepared(db: SqlDatabase) -> str:
    return db.run(lambda tx: "\n".join(tx.execute(PREPARED).scalars()))


def test_a_statement_that_comes_often_is_prepared_and_does_the_same(db: SqlDatabase) -> None:
    def once(tx: Tx) -> tuple[int, int, int]:
        hit, missed = (tx.execute(RAISE, {"of": uuid, "more": 2}) for uuid in (ONE, OTHER))
        return hit.scalar_one(), hit.rowcount, missed.rowcount

    assert [db.run(once) for _ in range(ENOUGH)] == [(2 * n, 1, 0) for n in range(1, ENOUGH + 1)]
    assert prepared(db).count("UPDATE claim") == 1


def test_a_percent_sign_and_a_null_go_through(db: SqlDatabase) -> None:
    like = text("SELECT :one || '%' LIKE '100%%', CAST(:nothing AS text) IS NULL")
    assert [
        db.run(lambda tx: tuple(tx.execute(like, {"one": "100", "nothing": None}).one()))
        for _ in range(ENOUGH)
    ] == [(True, True)] * ENOUGH
    assert "LIKE" in prepared(db)


def test_one_that_cannot_be_prepared_is_executed_as_it_is_and_undoes_nothing(db: SqlDatabase) -> None:
    of_any_type = text("SELECT pg_typeof(:what)")

    def once(tx: Tx) -> str:
        tx.execute(update(claim).values(fence=claim.c.fence + 1))
        return str(tx.execute(of_any_type, {"what": 5}).scalar_one())

    assert {db.run(once) for _ in range(ENOUGH)} == {"integer"}
    assert db.run(lambda tx: tx.execute(select(claim.c.fence)).scalar_one()) == ENOUGH
    assert "pg_typeof" not in prepared(db)


def test_those_that_can_be_are_prepared_beside_those_that_cannot(db: SqlDatabase) -> None:
    unfit = [text(f"SELECT pg_typeof(:what), {n}") for n in range(3)]
    fit = [text(f"SELECT CAST(:what AS int) + {n}") for n in range(6)]

    def all_of_them(some: slice) -> list[int]:
        def work(tx: Tx) -> list[int]:
            for statement in unfit[some]:
                tx.execute(statement, {"what": 1})
            return [int(tx.execute(statement, {"what": 1}).scalar_one()) for statement in fit[some]]

        return db.run(work)

    for _ in range(ENOUGH):
        assert all_of_them(slice(3)) == [1, 2, 3]
    for _ in range(ENOUGH):
        assert all_of_them(slice(3, 6)) == [4, 5, 6]
    assert prepared(db).count("CAST($1 AS int)") == len(fit)


def test_one_that_fails_tells_why_as_ever(db: SqlDatabase) -> None:
    def again(tx: Tx) -> None:
        tx.execute(insert(claim), {"resource_uuid": ONE, "job_uuid": OTHER, "fence": 1})

    codes = set()
    for _ in range(ENOUGH):
        with pytest.raises(ApiError) as refused:
            db.run(again)
        codes.add(refused.value.code)
    assert codes == {"core.conflict"}
    assert "INSERT INTO claim" in prepared(db)
