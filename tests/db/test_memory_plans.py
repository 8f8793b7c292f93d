"""Prepared statements do what SQLAlchemy does with them, the second time they are run and ever after."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from mgmtnode.db.base import JsonOf, UtcTime
from mgmtnode.db.memory_plans import PreparedConnection

thing = Table(
    "thing",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String, unique=True),
    Column("at", UtcTime),
    Column("said", JsonOf()),
    Column("good", Boolean),
)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
INSERT = insert(thing).returning(thing.c.id)
AMONG = select(thing).where(thing.c.id.in_(bindparam("ids", expanding=True))).order_by(thing.c.id)
LATEST = select(thing.c.name, thing.c.at).where(thing.c.at <= bindparam("until")).limit(bindparam("most"))
RENAME = update(thing).where(thing.c.id == bindparam("which")).values(name=bindparam("called"))
GOOD = update(thing).where(thing.c.good).values(said={"well": True})
DROP = delete(thing).where(thing.c.id > 2).returning(thing.c.name)


@pytest.fixture
def prepared() -> Iterator[PreparedConnection]:
    engine = create_engine("sqlite://", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        thing.create(connection)
        yield PreparedConnection(connection)
    engine.dispose()


def row(number: int) -> dict[str, Any]:
    return {"name": f"n{number}", "at": NOW, "said": [number], "good": number % 2 == 0}


def thrice(prepared: PreparedConnection, statement: Any, params: Any = None) -> list[list[tuple[Any, ...]]]:
    """What is found by SQLAlchemy, and then by what was prepared."""
    return [[tuple(found) for found in prepared.execute(statement, params)] for _ in range(3)]


def test_values_go_in_and_come_out_as_they_do_with_sqlalchemy(prepared: PreparedConnection) -> None:
    assert [prepared.execute(INSERT, row(n)).scalar() for n in (1, 2, 3)] == [1, 2, 3]
    first, *others = thrice(prepared, AMONG, {"ids": [1, 3]})
    assert first == [(1, "n1", NOW, [1], False), (3, "n3", NOW, [3], False)] and others == [first] * 2
    first, *others = thrice(prepared, LATEST, {"until": NOW, "most": 2})
    assert first == [("n1", NOW), ("n2", NOW)] and others == [first] * 2


def test_lists_of_any_length_are_asked_for_in_turn(prepared: PreparedConnection) -> None:
    for n in (1, 2, 3):
        prepared.execute(INSERT, row(n))
    for ids in ([1], [1, 2], (), [3], [2, 1, 3], (), (2, 3)):
        found = prepared.execute(AMONG, {"ids": ids}).mappings().all()
        assert [each["id"] for each in found] == sorted(ids)


def test_what_changed_is_counted_and_what_was_returned_is_there(prepared: PreparedConnection) -> None:
    for n in (1, 2, 3, 4):
        prepared.execute(INSERT, row(n))
    counts = [prepared.execute(RENAME, {"which": w, "called": f"m{w}"}).rowcount for w in (1, 2, 9)]
    assert counts == [1, 1, 0]
    assert [prepared.execute(GOOD).rowcount for _ in range(3)] == [2, 2, 2]
    assert [prepared.execute(DROP).scalars().all() for _ in range(3)] == [["n3", "n4"], [], []]
    assert prepared.execute(AMONG, {"ids": [2]}).first().said == {"well": True}


def test_a_statement_that_is_derived_from_another_is_another(prepared: PreparedConnection) -> None:
    for n in (1, 2):
        prepared.execute(INSERT, row(n))
    every = select(thing.c.id)
    thrice(prepared, every)
    assert thrice(prepared, every.where(thing.c.id == 2)) == [[(2,)]] * 3


def test_a_constraint_is_told_of_as_sqlalchemy_does(prepared: PreparedConnection) -> None:
    prepared.execute(INSERT, row(1))
    for _ in range(3):
        with pytest.raises(IntegrityError, match="UNIQUE"):
            prepared.execute(INSERT, row(1))
