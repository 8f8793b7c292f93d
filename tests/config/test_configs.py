from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
from sqlalchemy import event, select, update

from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import global_config, resource
from mgmtnode.errors import ApiError, DeclarationError

RESERVED = GlobalConfig("box.reserved", 10, "Kept free", low=0, high=100, overridable=("box", "rack", "room"))
MODE = GlobalConfig("box.mode", "fast", "How it goes", choices=("fast", "safe"), overridable=("rack",))
RATIO = GlobalConfig("room.ratio", 1.5, "Overcommitment", low=1.0, high=8.0)
NOBODY = "00000000-0000-7000-8000-0000000000ff"
STRICT = GlobalConfig("room.strict", True, "Refuses instead of warning")


def declared(*configs: GlobalConfig[Any]) -> GlobalConfigs:
    made = GlobalConfigs()
    made.declare("box", configs or (RESERVED, MODE, RATIO, STRICT))
    return made


def loaded(db: SqlDatabase, *configs: GlobalConfig[Any]) -> GlobalConfigs:
    made = declared(*configs)
    run(db, lambda: made.load(db))
    return made


def run(db: SqlDatabase, work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


def write(db: SqlDatabase, work: Callable[[Tx], Any]) -> Any:
    async def go() -> Any:
        return await db.write(work)

    return asyncio.run(go())


def refused(code: str, work: Callable[[], Any]) -> str:
    with pytest.raises(ApiError) as raised:
        work()
    assert raised.value.code == code
    return raised.value.problem.message


def row(db: SqlDatabase, config: GlobalConfig[Any]) -> dict[str, Any]:
    statement = select(
        global_config, resource.c.name, resource.c.unique_name, resource.c.type.label("kind")
    ).join(resource, resource.c.uuid == global_config.c.uuid)
    found = db.run(lambda tx: tx.execute(statement.where(resource.c.name == config.name)).mappings().first())
    return dict(found or {})


class Statements:
    def __init__(self, db: SqlDatabase) -> None:
        self.seen: list[str] = []
        event.listen(db.engine, "before_cursor_execute", lambda *args: self.seen.append(args[2]))


def test_a_config_nobody_touched_has_its_default_without_sql(db: SqlDatabase) -> None:
    configs = loaded(db)
    statements = Statements(db)
    assert (configs.get(RESERVED), configs.get(MODE), configs.get(RATIO), configs.get(STRICT)) == (
        10,
        "fast",
        1.5,
        True,
    )
    assert statements.seen == []


def test_a_change_is_in_force_after_the_commit_and_after_a_restart(db: SqlDatabase) -> None:
    configs = loaded(db)

    def change(tx: Tx) -> None:
        configs.set(tx, "box.reserved", 20)
        configs.set(tx, "room.strict", False)
        assert configs.get(RESERVED) == 10

    write(db, change)
    again = loaded(db)
    assert (
        (configs.get(RESERVED), configs.get(STRICT))
        == (again.get(RESERVED), again.get(STRICT))
        == (20, False)
    )


def test_a_change_that_is_rolled_back_is_not_in_force(db: SqlDatabase) -> None:
    configs = loaded(db)

    def change(tx: Tx) -> None:
        configs.set(tx, "box.reserved", 20)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(db, change)
    assert configs.get(RESERVED) == loaded(db).get(RESERVED) == 10


def test_a_value_that_does_not_fit_is_refused_and_nothing_is_stored(db: SqlDatabase) -> None:
    configs = loaded(db)
    for value in (101, "many", True, None, [1], 1.5):
        refused(
            "config.invalid-value",
            lambda value=value: write(db, lambda tx: configs.set(tx, "box.reserved", value)),
        )
    assert row(db, RESERVED)["changed"] is False


def test_an_unknown_config_is_refused_with_the_nearest_name(db: SqlDatabase) -> None:
    configs = loaded(db)
    message = refused("config.unknown", lambda: write(db, lambda tx: configs.set(tx, "box.reservd", 1)))
    assert "did you mean box.reserved?" in message
    refused("config.unknown", lambda: configs.by_uuid(NOBODY))
    assert configs.by_uuid(RESERVED.uuid) is RESERVED


def test_a_config_that_no_manifest_declares_cannot_be_read() -> None:
    with pytest.raises(DeclarationError, match=r"box\.mode is not declared"):
        declared(RESERVED).get(MODE)


def test_two_declarations_of_one_name_and_bad_defaults_are_refused() -> None:
    with pytest.raises(DeclarationError, match=r"rack: the global config box\.mode is declared twice"):
        declared(MODE).declare("rack", [MODE])
    with pytest.raises(DeclarationError, match=r"box: the default does not fit: box\.n: expected at least 1"):
        declared(GlobalConfig("box.n", 0, "A number", low=1))


def test_reset_goes_back_to_the_default_and_follows_a_later_one(db: SqlDatabase) -> None:
    configs = loaded(db)
    write(db, lambda tx: configs.set(tx, "box.reserved", 20))
    write(db, lambda tx: configs.reset(tx, "box.reserved"))
    assert configs.get(RESERVED) == 10
    later = GlobalConfig("box.reserved", 12, "Kept free")
    assert loaded(db, later).get(later) == 12
    assert (row(db, later)["value"], row(db, later)["changed"]) == ("12", False)


def test_what_an_operator_set_survives_a_new_default(db: SqlDatabase) -> None:
    configs = loaded(db)
    write(db, lambda tx: configs.set(tx, "box.reserved", 20))
    later = GlobalConfig("box.reserved", 12, "Kept free, in percent", unit="%")
    assert loaded(db, later).get(later) == 20
    stored = row(db, later)
    assert (stored["value"], stored["default"], stored["unit"], stored["changed"]) == ("20", "12", "%", True)


def test_every_declared_config_is_a_resource_that_queries_see(db: SqlDatabase) -> None:
    loaded(db)
    stored = row(db, RESERVED)
    assert stored["uuid"] == RESERVED.uuid
    assert (stored["kind"], stored["unique_name"], stored["category"]) == (
        "global-config",
        "box.reserved",
        "box",
    )
    assert (stored["type"], stored["low"], stored["high"]) == ("integer", 0, 100)
    assert stored["overridable"] == ["box", "rack", "room"]
    assert row(db, MODE)["choices"] == ["fast", "safe"]
    assert (row(db, STRICT)["type"], row(db, STRICT)["value"], row(db, RATIO)["type"]) == (
        "boolean",
        "true",
        "number",
    )


def test_a_value_that_nobody_declares_any_more_is_kept_and_reported(
    db: SqlDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    configs = loaded(db)
    write(db, lambda tx: configs.set(tx, "box.mode", "safe"))
    older = declared(RATIO)
    assert run(db, lambda: older.load(db)) == ["box.mode"]
    assert "box.mode is kept but has no effect" in caplog.text
    assert row(db, RESERVED) == {}, "what nobody set goes with its declaration"
    assert loaded(db).get(MODE) == "safe"


def test_a_stored_value_that_no_longer_fits_gives_way_to_the_default_with_a_warning(
    db: SqlDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    configs = loaded(db)
    write(db, lambda tx: configs.set(tx, "box.reserved", 90))
    tighter = GlobalConfig("box.reserved", 10, "Kept free", low=0, high=50)
    assert loaded(db, tighter).get(tighter) == 10
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["a stored value is ignored: box.reserved: expected at most 50, got '90'"]


def test_loading_again_changes_nothing(db: SqlDatabase) -> None:
    loaded(db)
    statements = Statements(db)
    loaded(db)
    assert [s for s in statements.seen if not s.startswith(("SELECT", "BEGIN"))] == []


def test_listeners_hear_a_change_once_and_one_that_fails_stops_nobody(
    db: SqlDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    configs, heard = loaded(db), []

    def broken(value: int) -> None:
        raise RuntimeError("no")

    configs.on_change(RESERVED, broken)
    configs.on_change(RESERVED, heard.append)
    write(db, lambda tx: configs.set(tx, "box.reserved", 20))
    write(db, lambda tx: configs.set(tx, "box.reserved", 20))
    write(db, lambda tx: configs.set(tx, "box.mode", "safe"))
    assert heard == [20]
    assert "a listener of box.reserved failed" in caplog.text


def test_another_node_sees_the_change_after_a_refresh(db: SqlDatabase) -> None:
    here, there = loaded(db), loaded(db)
    heard: list[int] = []
    there.on_change(RESERVED, heard.append)
    write(db, lambda tx: here.set(tx, "box.reserved", 20))
    assert there.get(RESERVED) == 10
    run(db, lambda: there.refresh(db))
    assert (there.get(RESERVED), heard) == (20, [20])
    write(db, lambda tx: here.reset(tx, "box.reserved"))
    run(db, lambda: there.refresh(db))
    assert heard == [20, 10]


class TestOverrides:
    @pytest.fixture
    def chain(self, db: SqlDatabase, foreign: Any) -> dict[str, str]:
        def make(tx: Tx) -> dict[str, str]:
            room = foreign.make(tx, "room")
            rack = foreign.make(tx, "rack", room_uuid=room)
            return {"room": room, "rack": rack, "box": foreign.make(tx, "box", rack_uuid=rack)}

        return cast("dict[str, str]", write(db, make))

    def test_the_nearest_resource_with_a_value_wins(self, db: SqlDatabase, chain: dict[str, str]) -> None:
        configs = loaded(db)

        def value() -> int:
            return cast("int", write(db, lambda tx: configs.get_for(tx, RESERVED, chain)))

        seen = [value()]
        for kind, number in (("room", 30), ("box", 50), ("rack", 40)):
            write(db, lambda tx, kind=kind, number=number: configs.set_for(tx, RESERVED, chain[kind], number))
            seen.append(value())
        write(db, lambda tx: configs.reset_for(tx, RESERVED, chain["box"]))
        seen.append(value())
        assert seen == [10, 30, 50, 50, 40]

    def test_no_sql_while_no_resource_carries_the_config_and_one_statement_after(
        self, db: SqlDatabase, chain: dict[str, str]
    ) -> None:
        configs = loaded(db)
        statements = Statements(db)
        write(db, lambda tx: configs.get_many_for(tx, RESERVED, [chain, {}]))
        before = len([s for s in statements.seen if s.startswith("SELECT")])
        write(db, lambda tx: configs.set_for(tx, RESERVED, chain["rack"], 40))
        statements.seen.clear()
        values = write(
            db, lambda tx: configs.get_many_for(tx, RESERVED, [chain, {}, {"room": chain["room"]}])
        )
        assert (before, len([s for s in statements.seen if s.startswith("SELECT")])) == (0, 1)
        assert values == [40, 10, 10]

    def test_another_node_sees_an_override_after_a_refresh(
        self, db: SqlDatabase, chain: dict[str, str]
    ) -> None:
        here, there = loaded(db), loaded(db)
        write(db, lambda tx: here.set_for(tx, RESERVED, chain["rack"], 40))
        run(db, lambda: there.refresh(db))
        assert write(db, lambda tx: there.get_for(tx, RESERVED, chain)) == 40

    def test_a_resource_of_another_type_cannot_carry_it(self, db: SqlDatabase, chain: dict[str, str]) -> None:
        configs = loaded(db)
        message = refused(
            "config.not-overridable",
            lambda: write(db, lambda tx: configs.set_for(tx, MODE, chain["box"], "safe")),
        )
        assert "box.mode can be overridden on: rack; not on a box" in message
        refused("core.not-found", lambda: write(db, lambda tx: configs.set_for(tx, MODE, NOBODY, "safe")))
        refused(
            "config.invalid-value",
            lambda: write(db, lambda tx: configs.set_for(tx, MODE, chain["rack"], "?")),
        )

    def test_taking_a_value_away_says_whether_there_was_one(
        self, db: SqlDatabase, chain: dict[str, str]
    ) -> None:
        configs = loaded(db)
        assert write(db, lambda tx: configs.set_for(tx, RESERVED, chain["rack"], 40)) == "40"
        assert write(db, lambda tx: configs.reset_for(tx, RESERVED, chain["rack"])) is True
        assert write(db, lambda tx: configs.reset_for(tx, RESERVED, chain["rack"])) is False

    def test_a_stored_override_that_no_longer_fits_gives_way_to_the_next(
        self, db: SqlDatabase, chain: dict[str, str]
    ) -> None:
        configs = loaded(db)
        write(db, lambda tx: configs.set_for(tx, RESERVED, chain["rack"], 90))
        write(db, lambda tx: configs.set_for(tx, RESERVED, chain["room"], 30))
        tighter = GlobalConfig("box.reserved", 10, "Kept free", high=50, overridable=("box", "rack", "room"))
        assert write(db, lambda tx: loaded_in(tx, db, tighter).get_for(tx, tighter, chain)) == 30

    def test_the_effective_values_of_a_resource_say_where_each_comes_from(
        self, db: SqlDatabase, chain: dict[str, str]
    ) -> None:
        configs = loaded(db)
        write(db, lambda tx: configs.set_for(tx, RESERVED, chain["room"], 30))
        of_box = write(db, lambda tx: configs.effective(tx, chain["box"]))
        of_rack = write(db, lambda tx: configs.effective(tx, chain["rack"]))
        assert [(v.config.name, v.value, v.carrier_type, v.carrier_uuid) for v in of_box] == [
            ("box.reserved", 30, "room", chain["room"])
        ]
        assert [(v.config.name, v.value, v.carrier_type, v.carrier_uuid) for v in of_rack] == [
            ("box.reserved", 30, "room", chain["room"]),
            ("box.mode", "fast", "", None),
        ]


def loaded_in(tx: Tx, db: SqlDatabase, *configs: GlobalConfig[Any]) -> GlobalConfigs:
    """Another node's configs, read in this transaction (SQLite has one writer)."""
    from mgmtnode.config import repository

    made = declared(*configs)
    made._overridden = repository.overridden_names(tx)
    return made


def test_only_changed_rows_are_written_by_a_new_release(db: SqlDatabase) -> None:
    loaded(db)
    db.run(lambda tx: tx.execute(update(resource).values(description="old text")))
    statements = Statements(db)
    loaded(db)
    assert len([s for s in statements.seen if s.startswith("UPDATE")]) == 4
