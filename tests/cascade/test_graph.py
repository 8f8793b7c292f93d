"""The graph of what a deletion does below: vetoes, jobs, and columns that are emptied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Column, MetaData, Table, insert, select

from mgmtnode.bus.message import ActionJob, Api, DeleteJob, Nothing
from mgmtnode.cascade.graph import CascadeGraph, Doomed, OnDelete
from mgmtnode.db.base import UuidText
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.errors import IN_USE, ApiError, DeclarationError
from mgmtnode.ports import SystemClock

tables = MetaData()
shelf = Table("shelf", tables, Column("uuid", UuidText, primary_key=True), Column("room_uuid", UuidText))
box = Table(
    "box", tables, Column("uuid", UuidText, primary_key=True), Column("shelf_uuid", UuidText),
    Column("inside_uuid", UuidText), Column("label_uuid", UuidText),
)  # fmt: skip


class DeleteShelf(DeleteJob, frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("shelf.delete", "DELETE", "/shelves/{uuid}")


class DeleteBox(DeleteJob, frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("box.delete", "DELETE", "/boxes/{uuid}")


class CloseBox(ActionJob[Nothing], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("box.close", "POST", "/boxes/{uuid}/actions/close")


def uuid(n: int) -> str:
    return f"0190ffff-0000-7000-8000-{n:012x}"


ROOM, LABEL = uuid(1), uuid(2)
asked: list[Doomed] = []


def ask(tx: Tx, doomed: Doomed) -> None:
    asked.append(doomed)


def delete(message: type[DeleteJob]) -> Callable[[Doomed], DeleteJob]:
    return lambda doomed: message(uuid=doomed.uuid, force=doomed.force)


SHELVES = OnDelete("shelf", "room_uuid", "room", act=delete(DeleteShelf), refuse=ask)
BOXES = OnDelete("box", "shelf_uuid", "shelf", act=delete(DeleteBox), refuse=ask)
INSIDE = OnDelete("box", "inside_uuid", "box", act=delete(DeleteBox), refuse=ask)
LABELS = OnDelete("box", "label_uuid", "label", nullify=True)


@pytest.fixture
def db(database_url: str, tmp_path: Path) -> Iterator[SqlDatabase]:
    asked.clear()
    db = open_database(database_url or f"sqlite:///{tmp_path / 'test.db'}", SystemClock())
    db.run(lambda tx: tables.create_all(tx.connection))
    yield db
    db.engine.dispose()


def put(db: SqlDatabase, table: Table, n: int, **columns: Any) -> str:
    db.run(lambda tx: tx.execute(insert(table).values(uuid=uuid(n), **columns)))
    return uuid(n)


def graph(*rules: OnDelete) -> CascadeGraph:
    return CascadeGraph(rules, [shelf, box])


def test_the_work_below_is_one_job_a_child_with_its_key_and_force(db: SqlDatabase) -> None:
    first, second = put(db, shelf, 11, room_uuid=ROOM), put(db, shelf, 12, room_uuid=ROOM)
    put(db, shelf, 13, room_uuid=uuid(99))
    for force in (False, True):
        work = db.run(lambda tx, f=force: graph(SHELVES).work(tx, Doomed(ROOM, "", "room", f), "room", 1))  # type: ignore[misc]
        assert work == [(f"shelf.delete:{u}", DeleteShelf(uuid=u, force=force)) for u in (first, second)]


def test_every_rule_down_to_the_leaves_is_asked_once_with_where_it_began(db: SqlDatabase) -> None:
    upper = put(db, shelf, 11, room_uuid=ROOM)
    for n in range(21, 24):
        put(db, box, n, shelf_uuid=upper)
    put(db, box, 31, inside_uuid=uuid(21))
    db.run(lambda tx: graph(SHELVES, BOXES, INSIDE).check(tx, "room", ROOM, root="house"))
    assert [d.uuid for d in asked] == [uuid(n) for n in (11, 21, 22, 23, 31)]
    assert {(d.root, d.force) for d in asked} == {("house", False)}
    assert asked[-1].parent_uuid == uuid(21)


def test_the_first_veto_is_raised(db: SqlDatabase) -> None:
    def refuse(tx: Tx, doomed: Doomed) -> None:
        raise IN_USE.error("it is full", resource=doomed.uuid)

    put(db, box, 21, shelf_uuid=put(db, shelf, 11, room_uuid=ROOM))
    full = OnDelete("box", "shelf_uuid", "shelf", act=delete(DeleteBox), refuse=refuse)
    with pytest.raises(ApiError, match="it is full"):
        db.run(lambda tx: graph(SHELVES, full).check(tx, "room", ROOM, root="room"))


def test_what_is_only_changed_is_not_followed_further(db: SqlDatabase) -> None:
    closing = OnDelete("box", "shelf_uuid", "shelf", act=lambda d: CloseBox(uuid=d.uuid), refuse=ask)
    put(db, box, 31, inside_uuid=put(db, box, 21, shelf_uuid=uuid(11)))
    db.run(lambda tx: graph(closing, INSIDE).check(tx, "shelf", uuid(11), root="shelf"))
    assert [d.uuid for d in asked] == [uuid(21)]


def test_references_in_a_circle_and_long_chains_end(db: SqlDatabase) -> None:
    for n in range(100, 140):
        put(db, box, n, inside_uuid=uuid(n - 1 if n > 100 else 139))
    db.run(lambda tx: graph(INSIDE).check(tx, "box", uuid(100), root="box"))
    assert len(asked) == 40  # the last one is where it began: asked, and not gone through again


def test_a_thousand_children_are_asked_in_a_few_statements(db: SqlDatabase) -> None:
    upper = put(db, shelf, 11, room_uuid=ROOM)
    rows = [{"uuid": uuid(1000 + n), "shelf_uuid": upper} for n in range(1200)]
    db.run(lambda tx: tx.execute(insert(box), rows))
    statements = [0]

    def check(tx: Tx) -> None:
        execute = tx.execute

        def counted(*args: Any) -> Any:
            statements[0] += 1
            return execute(*args)

        tx.execute = counted  # type: ignore[method-assign]
        graph(SHELVES, BOXES, INSIDE).check(tx, "room", ROOM, root="room")

    db.run(check)
    assert len(asked) == 1201
    assert statements[0] <= 6


def test_a_column_that_is_emptied_leaves_the_row(db: SqlDatabase) -> None:
    kept = put(db, box, 21, label_uuid=LABEL)
    other = put(db, box, 22, label_uuid=uuid(3))
    db.run(lambda tx: graph(LABELS).detach(tx, "label", LABEL))
    rows = db.run(
        lambda tx: list(tx.execute(select(box.c.uuid, box.c.label_uuid).order_by(box.c.uuid)).all())
    )
    assert [tuple(row) for row in rows] == [(kept, None), (other, uuid(3))]
    assert db.run(lambda tx: graph(LABELS).work(tx, Doomed(LABEL, "", "label", False), "label", 1)) == []


@pytest.mark.parametrize("how", [{}, {"act": delete(DeleteBox), "nullify": True}])
def test_a_rule_either_acts_or_empties(how: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=r"box\.label_uuid: give either act or nullify"):
        graph(OnDelete("box", "label_uuid", "label", **how))
