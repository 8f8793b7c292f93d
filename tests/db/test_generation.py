"""A database that begins another life gives out no number twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from mgmtnode.cli.main import invoke
from mgmtnode.cluster import repository
from mgmtnode.cluster.records import Identity
from mgmtnode.db import generation
from mgmtnode.db.engine import open_database
from mgmtnode.db.generation import SHIFT
from mgmtnode.db.schema import upgrade
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import cluster, ring_slot
from mgmtnode.ports import SystemClock
from mgmtnode.testing.servers import PostgresServer
from tests.backups import recover, save

UUID = "00000000-0000-7000-8000-000000000001"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def found(db: SqlDatabase) -> None:
    def enter(tx: Tx) -> None:
        repository.found_cluster(tx, UUID)
        repository.lock(tx)
        repository.register(tx, Identity("n1", "here:1", "1", ""))

    upgrade(db, ())
    asyncio.run(db.write(enter))


def numbers(tx: Tx) -> tuple[int, int, int]:
    """(generation, lowest epoch, what the next job is called)."""
    life = tx.execute(select(cluster.c.db_generation)).scalar_one()
    epoch = tx.execute(select(func.min(ring_slot.c.epoch))).scalar_one()
    if tx.dialect == "sqlite":
        drawn = tx.execute(
            text("select coalesce(max(seq), 0) + 1 from sqlite_sequence where name = 'job'")
        ).scalar_one()
    else:
        drawn = tx.execute(text("select nextval(pg_get_serial_sequence('job', 'seq'))")).scalar_one()
    return life, epoch, drawn


def look(url: str) -> tuple[int, int, int]:
    """By a process that has just connected."""

    async def asked() -> tuple[int, int, int]:
        db = open_database(url, SystemClock())
        try:
            return await db.write(numbers)
        finally:
            await db.close()

    return asyncio.run(asked())


@pytest.mark.integration
def test_a_recovered_server_begins_another_life_before_anything_is_done_in_it(
    server: PostgresServer, tmp_path: Path
) -> None:
    url = server.create_database("cloud")
    db = open_database(url, SystemClock())
    found(db)
    first, epoch, drawn = look(url)
    assert first == 1 and epoch < 10 and drawn < 10
    for life in (2, 3):
        save(server, tmp_path / f"saved-{life}")
        assert look(url)[0] == life - 1  # a restart is no other life
        recover(server, tmp_path / f"saved-{life}")
        begun, epoch, drawn = asyncio.run(again(db))
        assert begun == life and epoch > life << SHIFT and drawn > life << SHIFT
        assert look(url) == (begun, epoch, drawn + 1)
    asyncio.run(db.close())


@pytest.mark.integration
def test_who_dies_while_another_life_begins_leaves_it_to_the_next(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first to connect is a reader, whose statements are no transaction."""
    db = open_database(postgres_url, SystemClock())
    found(db)
    asyncio.run(db.write(lambda tx: tx.execute(update(cluster).values(origin="another")).rowcount))
    asyncio.run(db.close())

    async def dies(work: str) -> None:
        db = open_database(postgres_url, SystemClock())
        with monkeypatch.context() as broken:
            broken.setattr(generation, "_draw_above", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await getattr(db, work)(lambda tx: 1)
        await db.close()

    for work in ("read", "write"):
        asyncio.run(dies(work))
    life, epoch, drawn = look(postgres_url)
    assert life == 2 and epoch > 2 << SHIFT and drawn > 2 << SHIFT


async def again(db: SqlDatabase) -> tuple[int, int, int]:
    """By a process that has lost its connections."""
    while True:
        try:
            return await db.write(numbers)
        except Exception:
            await asyncio.sleep(0.1)


def test_an_operator_says_that_an_embedded_database_was_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'mgmtnode.db'}"
    db = open_database(url, SystemClock())
    found(db)
    asyncio.run(db.close())
    (tmp_path / "mgmtnode.toml").write_text(f'[node]\ndata_dir = "{tmp_path}"\n')
    for life in (2, 3):
        assert invoke(["db", "restored", "--config", str(tmp_path / "mgmtnode.toml")]) == 0
        assert f"life {life} " in capsys.readouterr().out
        begun, epoch, drawn = look(url)
        assert begun == life and epoch > life << SHIFT and drawn > life << SHIFT
