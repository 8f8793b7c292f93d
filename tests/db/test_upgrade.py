"""Upgrading the schema: what is left in the database, who may do it, and what is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import insert, inspect, text, update
from sqlalchemy.exc import DBAPIError

from mgmtnode.db import migrate
from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.fingerprint import fingerprint
from mgmtnode.db.schema import SchemaError, applied, branches, pending, upgrade
from mgmtnode.db.session import SqlDatabase
from mgmtnode.db.tables import CORE_TABLES, job
from mgmtnode.ports import SystemClock
from mgmtnode.service import ServiceManifest
from tests.db.conftest import Plant, revision

MAKE_GADGETS = (
    'op.create_table("gadget", sa.Column("uuid", UuidText, sa.ForeignKey("resource.uuid"), primary_key=True))'
)
NODES = 4


def tables_of(db: SqlDatabase) -> set[str]:
    return set(inspect(db.engine).get_table_names())


def say(db: SqlDatabase, *statements: str) -> None:
    with db.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def listed(db: SqlDatabase) -> dict[str, int]:
    with db.engine.connect() as connection:
        return applied(connection)


def test_a_fresh_database_is_exactly_what_the_models_declare(
    databases: Callable[[], SqlDatabase], manifests: list[ServiceManifest]
) -> None:
    upgraded, declared = databases(), databases()
    tables = [table for manifest in manifests for table in manifest.tables]
    done = upgrade(upgraded, manifests)
    assert len(done) == len(set(done)) == sum(len(branch.files) for branch in branches(manifests))
    metadata.create_all(declared.engine, tables=[*CORE_TABLES, *tables])
    assert fingerprint(upgraded.engine) == fingerprint(declared.engine)
    assert migrate.differences(upgraded.engine, tables) == []


def test_a_job_that_has_ended_cannot_be_changed(db: SqlDatabase) -> None:
    upgrade(db, [])
    uuid, now = "0192d3a0-0000-7000-8000-000000000001", SystemClock().now()
    row = {
        "uuid": uuid, "account_uuid": uuid, "caller": "{}", "api": "zone.create", "payload": "{}",
        "resource_type": "zone", "resource_uuid": uuid, "slot": 1, "state": "Running", "deadline_at": now,
        "accepted_at": now,
    }  # fmt: skip
    with db.engine.begin() as connection:
        connection.execute(insert(job).values(row))
        connection.execute(update(job).values(state="Succeeded"))
    with pytest.raises(DBAPIError, match="a terminal job never changes"), db.engine.begin() as connection:
        connection.execute(update(job).values(state="Running"))


def test_upgrading_again_does_nothing(db: SqlDatabase, manifests: list[ServiceManifest]) -> None:
    assert upgrade(db, manifests)
    before = fingerprint(db.engine)
    assert upgrade(db, manifests) == []
    assert fingerprint(db.engine) == before


def test_a_boot_with_nothing_to_do_does_not_load_alembic(tmp_path: Path) -> None:
    program = (
        "import sys, mgmtnode.node\n"
        "from mgmtnode.db.engine import open_database\n"
        "from mgmtnode.db.schema import upgrade\n"
        "from mgmtnode.loader import discover\n"
        "from mgmtnode.ports import SystemClock\n"
        f"db = open_database('sqlite:///{tmp_path}/node.db', SystemClock())\n"
        "print(len(upgrade(db, discover())), 'alembic' in sys.modules)\n"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
        ).stdout
        for _ in range(2)
    )
    assert first.split()[1] == "True"
    assert second.split() == ["0", "False"]


def test_nodes_that_start_together_upgrade_once(
    databases: Callable[[], SqlDatabase], manifests: list[ServiceManifest]
) -> None:
    url = databases().engine.url.render_as_string(hide_password=False)
    barrier = Barrier(NODES, timeout=20)

    def node() -> list[str]:
        db = open_database(url, SystemClock())
        barrier.wait()
        try:
            return upgrade(db, manifests)
        finally:
            asyncio.run(db.close())

    with ThreadPoolExecutor(NODES) as pool:
        done = [future.result(60) for future in [pool.submit(node) for _ in range(NODES)]]
    assert sorted(map(len, done))[:-1] == [0] * (NODES - 1)
    assert sum(map(len, done)) == len(branches(manifests))


def test_a_service_added_later_gets_its_tables(db: SqlDatabase, manifests: list[ServiceManifest]) -> None:
    zone = [manifest for manifest in manifests if manifest.id == "zone"]
    assert upgrade(db, zone) == ["core_0001", "zone_0001"]
    rest = upgrade(db, manifests)
    assert "cluster_0001" in rest
    assert not {"core_0001", "zone_0001"} & set(rest)


def test_a_service_that_is_not_enabled_keeps_its_tables(
    db: SqlDatabase, manifests: list[ServiceManifest], plant: Plant
) -> None:
    upgrade(db, manifests)
    assert upgrade(db, []) == []
    assert upgrade(db, [plant("gadget", MAKE_GADGETS)]) == ["gadget_0001"]
    assert {"zone", "cluster", "gadget"} <= tables_of(db)
    assert upgrade(db, manifests) == []


def test_a_strangers_distribution_brings_its_own_branch(db: SqlDatabase, plant: Plant) -> None:
    assert upgrade(db, [plant("gadget", MAKE_GADGETS)]) == ["core_0001", "gadget_0001"]
    later = plant("gadget", MAKE_GADGETS, 'op.add_column("gadget", sa.Column("colour", sa.String(16)))')
    assert upgrade(db, [later]) == ["gadget_0002"]
    assert {column["name"] for column in inspect(db.engine).get_columns("gadget")} == {"uuid", "colour"}
    assert listed(db) == {"core": 1, "gadget": 2}


def test_the_core_goes_on_below_services_that_stand_on_it(
    db: SqlDatabase, manifests: list[ServiceManifest], tmp_path: Path, plant: Plant
) -> None:
    gadget = [plant("gadget", 'op.execute("insert into added values (1)")\n' + MAKE_GADGETS)]
    before = branches([manifest for manifest in manifests if manifest.id == "zone"])
    migrate.upgrade(db.engine, before)
    versions = tmp_path / "core" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_initial.py").write_text((before[0].directory / before[0].files[1]).read_text())
    body = 'op.create_table("added", sa.Column("id", sa.Integer, primary_key=True))'
    (versions / "0002_more.py").write_text(revision("core", 2, body))
    core = type(before[0])("core", versions, {1: "0001_initial.py", 2: "0002_more.py"})
    known = [core, *before[1:], *branches(gadget)[1:]]
    assert migrate.upgrade(db.engine, known) == ["core_0002", "gadget_0001"]
    with db.engine.connect() as connection:
        assert pending(connection, known) == []
    assert listed(db) == {"core": 2, "zone": 1, "gadget": 1}
    with pytest.raises(SchemaError, match="core_0002"):
        upgrade(db, manifests)


@pytest.mark.parametrize("newer", ["zone_0099", "core_0042"])
def test_a_database_newer_than_the_release_is_refused(
    newer: str, db: SqlDatabase, manifests: list[ServiceManifest]
) -> None:
    upgrade(db, manifests)
    say(
        db,
        f"delete from alembic_version where version_num like '{newer[:5]}%'",
        f"insert into alembic_version values ('{newer}')",
    )
    with pytest.raises(SchemaError, match=f"has revision {newer}.*start the release that upgraded it"):
        upgrade(db, manifests)


def test_a_revision_that_fails_leaves_the_database_as_it_was(db: SqlDatabase, plant: Plant) -> None:
    bad = plant("gadget", MAKE_GADGETS + '\nop.execute("insert into nowhere values (1)")')
    with pytest.raises(SchemaError, match=r"gadget_0001 could not be applied, .* as it was: .*nowhere"):
        upgrade(db, [bad])
    assert tables_of(db) == set()
    upgrade(db, [])
    before = fingerprint(db.engine)
    with pytest.raises(SchemaError):
        upgrade(db, [bad])
    assert fingerprint(db.engine) == before
    assert listed(db) == {"core": 1}
    assert upgrade(db, [plant("gadget", MAKE_GADGETS)]) == ["gadget_0001"]


# Copying a table reflects those that it refers to, and SQLAlchemy warns of an index on an expression.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_changing_a_table_keeps_the_rows_that_refer_to_it(db: SqlDatabase, plant: Plant) -> None:
    make = (
        MAKE_GADGETS + '\nop.create_table("part", sa.Column("gadget", UuidText, '
        'sa.ForeignKey("gadget.uuid", ondelete="CASCADE"), primary_key=True))'
    )
    upgrade(db, [plant("gadget", make)])
    uuid = "0192d3a0-0000-7000-8000-000000000001"
    say(
        db,
        "insert into resource (uuid, type, name, account_uuid, created_at, updated_at) "
        f"values ('{uuid}', 'gadget', 'g', '{uuid}', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')",
        f"insert into gadget values ('{uuid}')",
        f"insert into part values ('{uuid}')",
    )
    change = (
        'with op.batch_alter_table("gadget", recreate="always" if op.get_context().dialect.name == "sqlite" '
        'else "auto") as batch_op:\n    batch_op.add_column(sa.Column("colour", sa.String(16)))'
    )
    assert upgrade(db, [plant("gadget", make, change)]) == ["gadget_0002"]
    with db.engine.begin() as connection:
        assert connection.execute(text("select count(*) from part")).scalar() == 1
        connection.execute(text("delete from gadget"))
        assert connection.execute(text("select count(*) from part")).scalar() == 0, "references bind again"


def test_references_that_an_upgrade_breaks_undo_it(db: SqlDatabase, plant: Plant) -> None:
    if db.dialect != "sqlite":
        pytest.skip("PostgreSQL refuses the statement itself")
    upgrade(db, [plant("gadget", MAKE_GADGETS)])
    dangle = "op.execute(\"insert into gadget values ('nobody')\")"
    with pytest.raises(SchemaError, match="rows of gadget that refer to rows of resource"):
        upgrade(db, [plant("gadget", MAKE_GADGETS, dangle)])
    assert listed(db)["gadget"] == 1


@pytest.mark.parametrize("before", ["", "zone", "gadget"])
def test_the_printed_sql_does_what_an_upgrade_does(
    before: str, databases: Callable[[], SqlDatabase], manifests: list[ServiceManifest], plant: Plant
) -> None:
    printed, upgraded = databases(), databases()
    installed = [*manifests, plant("gadget", MAKE_GADGETS)]
    for db in (printed, upgraded) if before else ():
        upgrade(db, [manifest for manifest in installed if manifest.id == before])
    upgrade(upgraded, manifests)
    sql = migrate.statements(printed.engine, branches(manifests))
    connection = printed.engine.raw_connection()
    try:
        if printed.dialect == "sqlite":
            connection.driver_connection.executescript(sql)  # type: ignore[union-attr]
        else:
            connection.cursor().execute(sql)
    finally:
        connection.close()
    assert fingerprint(printed.engine) == fingerprint(upgraded.engine)
    assert upgrade(printed, manifests) == []
    assert migrate.statements(printed.engine, branches(manifests)) == ""


def test_tables_that_no_revision_made_are_refused(db: SqlDatabase) -> None:
    metadata.create_all(db.engine, tables=CORE_TABLES)
    with pytest.raises(SchemaError, match="before migrations were kept"):
        upgrade(db, [])


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ([], "has no revisions"),
        (["0001_a.py", "0001_b.py"], "0001_a.py and 0001_b.py have one number"),
        (["0001_a.py", "0003_b.py"], "without gaps"),
    ],
)
def test_files_that_are_not_numbered_one_by_one_are_refused(
    names: list[str], fault: str, tmp_path: Path, plant: Plant
) -> None:
    manifest = plant("gadget")
    for name in names:
        (tmp_path / "site/gadget/migrations/versions" / name).touch()
    with pytest.raises(SchemaError, match=fault):
        branches([manifest])


@pytest.mark.parametrize(
    "said",
    [
        {"id": "gadget_0007"},
        {"depends": None},
        {"depends": "zone_0001"},
        {"label": "zone"},
        {"down": "core_0001"},
    ],
)
def test_a_revision_that_is_not_where_its_file_is_is_refused(
    said: dict[str, object], db: SqlDatabase, manifests: list[ServiceManifest], plant: Plant
) -> None:
    zone = [manifest for manifest in manifests if manifest.id == "zone"]
    with pytest.raises(SchemaError, match="gadget"):
        upgrade(db, [*zone, plant("gadget", MAKE_GADGETS, **said)])
    assert tables_of(db) == set()
