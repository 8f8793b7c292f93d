"""``mgmtnode db``: what an operator reads, and the exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mgmtnode.cli.main import invoke

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(empty_database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    file = tmp_path / "mgmtnode.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path}"\n[database]\nurl = "{empty_database_url}"\n')

    def command(*words: str) -> tuple[int, str, str]:
        code = invoke(["db", *words, "--config", str(file)])
        return code, *capsys.readouterr()

    return command


def test_an_operator_upgrades_and_sees_what_was_done(run: Run) -> None:
    run("upgrade", "--sql")
    code, _, err = run("check")
    assert code == 1
    assert "to be applied: core_0001" in err
    code, out, _ = run("upgrade")
    assert code == 0
    assert out.startswith("up to date; applied core_0001, ")
    assert run("upgrade")[:2] == (0, "up to date already\n")
    assert run("upgrade", "--sql")[:2] == (0, "-- up to date already\n")
    assert run("check")[:2] == (0, "up to date\n")
    code, out, _ = run("current")
    assert code == 0
    assert ["zone", "zone_0001", "up", "to", "date"] in [line.split() for line in out.splitlines()]


def test_the_sql_is_printed_and_not_run(run: Run) -> None:
    code, out, _ = run("upgrade", "--sql")
    assert code == 0
    assert "CREATE TABLE resource" in out
    assert "CREATE TRIGGER job_terminal" in out
    assert out.rstrip().endswith("COMMIT;")
    assert run("check")[0] == 1


def test_tables_changed_by_hand_are_named(run: Run, empty_database_url: str, tmp_path: Path) -> None:
    run("upgrade")
    from sqlalchemy import create_engine, text

    engine = create_engine(empty_database_url or f"sqlite:///{tmp_path / 'mgmtnode.db'}")
    with engine.begin() as connection:
        connection.execute(text("drop index ix_allocation_pool_uuid_kind"))
    engine.dispose()
    code, _, err = run("check")
    assert code == 1
    assert "add_index allocation.ix_allocation_pool_uuid_kind" in err


def test_a_newer_database_is_a_matter_of_configuration(
    run: Run, empty_database_url: str, tmp_path: Path
) -> None:
    run("upgrade")
    from sqlalchemy import create_engine, text

    engine = create_engine(empty_database_url or f"sqlite:///{tmp_path / 'mgmtnode.db'}")
    with engine.begin() as connection:
        connection.execute(text("insert into alembic_version values ('core_0042')"))
    engine.dispose()
    for command in ("upgrade", "current", "check"):
        code, _, err = run(command)
        assert code == 78
        assert "newer than this release: it has revision core_0042" in err


@pytest.mark.integration
def test_four_processes_at_once_upgrade_once_and_all_succeed(postgres_url: str, tmp_path: Path) -> None:
    file = tmp_path / "mgmtnode.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path}"\n[database]\nurl = "{postgres_url}"\n')
    command = [sys.executable, "-m", "mgmtnode.cli", "db", "upgrade", "--config", str(file)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = [process.communicate(timeout=120)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0] * 4
    told.sort(key=len)
    assert told[:3] == ["up to date already"] * 3
    assert told[3].startswith("up to date; applied core_0001, ")
