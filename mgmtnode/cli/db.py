"""``mgmtnode db``: the database's schema, compared with what the services declare."""

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
    from sqlalchemy import Table

    from mgmtnode.config.file import Properties
    from mgmtnode.db.session import SqlDatabase


@click.group()
def db() -> None:
    """Bring the database's schema up to date, or check it."""


@db.command()
@config_option
def upgrade(config_file: Path | None) -> None:
    """Create what the installed services need. Nodes do the same when they start."""
    from mgmtnode.db.schema import missing
    from mgmtnode.db.schema import upgrade as bring_up

    with _opened(config_file, make=True) as (database, tables):
        before = missing(database, tables)
        bring_up(database, tables)
        left = missing(database, tables)
    if left:
        raise click.ClickException(f"still missing: {', '.join(left)}; this needs a migration by hand")
    click.echo(f"up to date; {len(before)} added" if before else "up to date already")


@db.command()
@config_option
def current(config_file: Path | None) -> None:
    """Show which database this is and how complete its schema is."""
    from mgmtnode.db.schema import missing, server

    with _opened(config_file) as (database, tables):
        version, _ = server(database)
        lacking = missing(database, tables)
    click.echo(f"{version}: {f'{len(lacking)} tables or columns missing' if lacking else 'up to date'}")


@db.command()
@config_option
def check(config_file: Path | None) -> int:
    """Exit with 1 and name what is missing if the schema is not up to date."""
    from mgmtnode.db.schema import missing

    with _opened(config_file) as (database, tables):
        lacking = missing(database, tables)
    if not lacking:
        click.echo("up to date")
        return 0
    click.echo(f"mgmtnode: the schema lacks {', '.join(lacking)}; run 'mgmtnode db upgrade'", err=True)
    return 1


@contextmanager
def _opened(config_file: Path | None, *, make: bool = False) -> Iterator[tuple[SqlDatabase, list[Table]]]:
    properties, manifests = read_all(config_file)
    if make:
        Path(properties.get(DATA_DIR)).mkdir(parents=True, exist_ok=True)
    elif (file := sqlite_file(properties)) and not file.exists():
        raise click.ClickException(f"there is no database at {file} yet; 'mgmtnode db upgrade' makes it")
    database = open_configured(properties)
    try:
        yield database, [table for manifest in manifests for table in manifest.tables]
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
    return open_database(url, SystemClock(), name="cli", connections=properties.get(DATABASE_CONNECTIONS))
