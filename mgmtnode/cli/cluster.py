"""``mgmtnode cluster``: the nodes and the ring, straight from the database, so that it works when no node answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from mgmtnode.cli.settings import config_option, read_all

if TYPE_CHECKING:
    from mgmtnode.cluster.survey import NodeStatus
    from mgmtnode.db.session import Tx

T = TypeVar("T")
WATCH_SECONDS = 2.5  # a living node beats once a second
NODE = ("NODE", "STATE", "LEASE", "SLOTS", "LEAVING", "IN FLIGHT", "QUEUED", "VERSION", "ADDRESS")


@click.group()
def cluster() -> None:
    """Show and change which nodes work: reads the database, needs no running node."""


@cluster.command()
@config_option
@click.option("--all", "show_all", is_flag=True, help="Also nodes that left or were evicted.")
def status(config_file: Path | None, show_all: bool) -> int:
    """List the nodes. Watches heartbeats for 2.5 seconds; exits with 1 if a node of the cluster shows none."""
    from mgmtnode.cluster.survey import survey

    with _database(config_file) as run:
        before = {node.name: node.hb_seq for node in run(survey)}
        time.sleep(WATCH_SECONDS)
        after = run(survey)
    shown = [node for node in after if show_all or node.present]
    if not shown:
        click.echo("no node is in the cluster")
        return 1
    still = {node.name for node in shown if node.present and node.hb_seq == before.get(node.name)}
    _table(NODE, [_row(node, node.name in still) for node in shown])
    for name in sorted(still):
        click.echo(f"{name}: no heartbeat within {WATCH_SECONDS:g} s", err=True)
    return 1 if still else 0


@cluster.command()
@click.argument("node")
@config_option
def drain(node: str, config_file: Path | None) -> None:
    """Have NODE hand its slots to the others. It goes on answering; a restart brings it back."""
    from mgmtnode.cluster import survey

    with _database(config_file) as run:
        _may_go(run(survey.survey), node)
        if not run(lambda tx: survey.drain(tx, node)):
            raise click.ClickException(f"{node} is not up, so it has nothing to drain")
    click.echo(f"{node} hands over its slots; see 'mgmtnode cluster status'")


@cluster.command()
@click.argument("node")
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def evict(node: str, config_file: Path | None, yes: bool) -> None:
    """Take all work from NODE at once, whether it lives or not. One that lives stops with exit code 75."""
    from mgmtnode.cluster import survey

    with _database(config_file) as run:
        _may_go(run(survey.survey), node)
        if not yes:
            click.confirm(f"Evict {node}? What it runs is taken over by the other nodes", abort=True)
        run(lambda tx: survey.evict(tx, node))
    click.echo(f"{node} is evicted")


@cluster.command()
@config_option
@click.option("--preview", multiple=True, metavar="add:NAME|remove:NAME", help="What would move; repeatable.")
def ring(config_file: Path | None, preview: tuple[str, ...]) -> None:
    """Show how many of the 1024 slots each node has, or would have."""
    from mgmtnode.cluster import survey

    changes = [_change(text) for text in preview]
    with _database(config_file) as run:
        added = [name for verb, name in changes if verb == "add"]
        removed = [name for verb, name in changes if verb == "remove"]
        found = run(survey.survey)
        if not {node.name for node in found if node.up}.union(added).difference(removed):
            raise click.ClickException("no node would be left")
        planned = run(lambda tx: survey.preview(tx, added, removed))
    now = {node.name: node.slots for node in found if node.slots}
    names = sorted({*now, *planned.owned})
    _table(("NODE", "NOW", "THEN"), [(n, str(now.get(n, 0)), str(planned.owned.get(n, 0))) for n in names])
    moved = sum(planned.moves.values())
    click.echo(f"{moved} of 1024 slots move ({moved / 10.24:.0f} %)" if moved else "no slot moves")
    for (source, target), count in sorted(planned.moves.items()):
        click.echo(f"  {source} -> {target}: {count}")


def _change(text: str) -> tuple[str, str]:
    verb, colon, name = text.partition(":")
    if verb not in ("add", "remove") or not colon or not name:
        raise click.UsageError(f"--preview {text}: say add:NAME or remove:NAME")
    return verb, name


def _may_go(found: list[NodeStatus], name: str) -> None:
    present = [node for node in found if node.present]
    if name not in {node.name for node in present}:
        known = ", ".join(node.name for node in present) or "none"
        raise click.ClickException(f"there is no node {name!r} in the cluster; there are: {known}")
    if not any(node.up for node in present if node.name != name):
        raise click.ClickException(f"{name} is the only node that is up: nobody could take its work")


def _row(node: NodeStatus, still: bool) -> tuple[str, ...]:
    lease = "-" if not node.present else "no heartbeat" if still else "good"
    numbers = (node.slots, node.leaving, node.in_flight, node.queued)
    return (node.name, node.state, lease, *map(str, numbers), node.version, node.address)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def _database(config_file: Path | None) -> Iterator[Callable[[Callable[[Tx], T]], T]]:
    """Runs transactions on the configured database, which must have been made by a node."""
    from mgmtnode.cli.db import open_configured, sqlite_file
    from mgmtnode.db.schema import branches, pending, told

    properties, manifests = read_all(config_file)
    if (file := sqlite_file(properties)) and not file.exists():
        raise click.ClickException(f"there is no database at {file} yet")
    database = open_configured(properties)
    try:
        with told(database), database.engine.connect() as connection:
            if due := pending(connection, branches(manifests)):
                raise click.ClickException(f"the schema lacks {', '.join(due)}: run 'mgmtnode db upgrade'")
        yield database.run
    finally:
        asyncio.run(database.close())
