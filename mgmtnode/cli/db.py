"""``mgmtnode db``: the database's schema, compared with the revisions that the services bring."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgmtnode.cli.settings import config_option, read_all
from mgmtnode.config.core_properties import DATA_DIR, DATABASE_CONNECTIONS, DATABASE_URL

if TYPE_CHECKING:
    from mgmtnode.config.file import Properties
    from mgmtnode.db.session import SqlDatabase
    from mgmtnode.service import ServiceManifest


@click.group()
def db() -> None:
    """Bring the database's schema up to date, or check it."""


@db.command()
@config_option
@click.option("--sql", is_flag=True, help="Print the SQL of what would be done, for an administrator to run.")
def upgrade(config_file: Path | None, sql: bool) -> None:
    """Bring the tables up to what the installed services need: all of it, or nothing.

    Nodes do the same when they start, and any number of them may do it at once.
    """
    from mgmtnode.db import schema

    with _opened(config_file, make=True) as (database, manifests):
        if sql:
            from mgmtnode.db.migrate import statements

            with schema.told(database):
                text = statements(database.engine, schema.branches(manifests))
            click.echo(text or "-- up to date already")
            return
        done = schema.upgrade(database, manifests)
    click.echo(f"up to date; applied {', '.join(done)}" if done else "up to date already")


@db.command()
@config_option
def current(config_file: Path | None) -> None:
    """Show which database this is, and what was applied for each service."""
    from mgmtnode.db.schema import applied, branches, pending, server, told

    with _opened(config_file) as (database, manifests):
        version, _ = server(database)
        known = branches(manifests)
        with told(database), database.engine.connect() as connection:
            done, due = applied(connection), pending(connection, known)
    click.echo(version)
    for branch in known:
        number = done.pop(branch.name, 0)
        behind = f"{branch.head - number} to apply" if number < branch.head else "up to date"
        click.echo(f"{branch.name:<27}  {branch.revision(number) if number else '-':<32}  {behind}")
    for name, number in sorted(done.items()):
        click.echo(f"{name:<27}  {f'{name}_{number:04d}':<32}  not enabled")
    if due:
        click.echo("run 'mgmtnode db upgrade', or start a node")


@db.command()
@config_option
def check(config_file: Path | None) -> int:
    """Exit with 1 if revisions are to be applied, or if the tables are not what the services declare."""
    from mgmtnode.db.schema import branches, pending, told

    with _opened(config_file) as (database, manifests):
        with told(database), database.engine.connect() as connection:
            due = pending(connection, branches(manifests))
        if due:
            click.echo(f"mgmtnode: to be applied: {', '.join(due)}; run 'mgmtnode db upgrade'", err=True)
            return 1
        from mgmtnode.db.migrate import differences

        with told(database):
            found = differences(
                database.engine, [table for manifest in manifests for table in manifest.tables]
            )
    if not found:
        click.echo("up to date")
        return 0
    click.echo("mgmtnode: somebody changed the tables; to have what is declared they lack:", err=True)
    for line in found:
        click.echo(f"  {line}", err=True)
    return 1


@db.command()
@config_option
def restored(config_file: Path | None) -> None:
    """Say that the database was restored from a backup, before a node is started on it.

    Numbers then go on above all that were given out since the backup, so that no host takes a new command for one
    that it has carried out. A PostgreSQL that was promoted, recovered to a point in time or restored elsewhere shows
    that itself; saying it once too often does no harm.
    """
    from mgmtnode.db import generation
    from mgmtnode.db.schema import told

    with _opened(config_file) as (database, _), _alone(config_file), told(database):
        number = generation.restored(database.engine)
    click.echo(f"life {number} of the database begins; start the nodes")


@contextmanager
def _alone(config_file: Path | None) -> Iterator[None]:
    """Keeps nodes from an embedded database. Raises DirectoryTaken while one uses it."""
    from mgmtnode.db.lock import DirectoryLock

    file = sqlite_file(read_all(config_file)[0])
    lock = None if file is None else DirectoryLock(file.parent)
    if lock is not None:
        lock.take()
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def _opened(
    config_file: Path | None, *, make: bool = False
) -> Iterator[tuple[SqlDatabase, list[ServiceManifest]]]:
    properties, manifests = read_all(config_file)
    if make:
        Path(properties.get(DATA_DIR)).mkdir(mode=0o700, parents=True, exist_ok=True)
    elif (file := sqlite_file(properties)) and not file.exists():
        raise click.ClickException(f"there is no database at {file} yet; 'mgmtnode db upgrade' makes it")
    database = open_configured(properties)
    try:
        yield database, manifests
    finally:
        asyncio.run(database.close())


def sqlite_file(properties: Properties) -> Path | None:
    """The file of an embedded database; None for a server."""
    return None if properties.get(DATABASE_URL) else Path(properties.get(DATA_DIR)) / "mgmtnode.db"


def open_configured(properties: Properties) -> SqlDatabase:
    """The database that the properties name. Does not connect yet."""
    from mgmtnode.db.engine import open_database
    from mgmtnode.ports import SystemClock

    url = properties.get(DATABASE_URL) or f"sqlite:///{sqlite_file(properties)}"
    return open_database(url, SystemClock(), label="mn/cli", connections=properties.get(DATABASE_CONNECTIONS))
