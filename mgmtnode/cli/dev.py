"""``mgmtnode dev``: a cloud on this machine, of one node in this process or of several in their own."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgmtnode.cli.run import reachable, say_ready, serve_until_told

if TYPE_CHECKING:
    from mgmtnode.node import ManagementNode

DEV_DIRECTORY = Path("data")  # where mnctl looks for the token


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--data-dir",
    default=DEV_DIRECTORY,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where all data are kept from one run to the next.",
)
@click.option("--hosts", default=10, show_default=True, type=click.IntRange(0, 1000), help="Simulated hosts.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Overrides log.level."
)
@click.option(
    "--nodes",
    default=1,
    show_default=True,
    type=click.IntRange(1, 9),
    help="More than one: a cluster of processes, with a private PostgreSQL and RabbitMQ.",
)
@click.option(
    "--restart/--no-restart",
    default=True,
    show_default=True,
    help="Of several nodes, start again one that ended.",
)
def dev(
    host: str, port: int, data_dir: Path, hosts: int, log_level: str | None, nodes: int, restart: bool
) -> int:
    """Run a cloud with simulated hosts on this machine. Not for production.

    One node needs nothing else: SQLite and an in-memory bus. Several need PostgreSQL and RabbitMQ installed; they run
    as processes behind a load balancer, HAProxy if it is there. DIR/nodes/NAME.pid, DIR/servers.json and DIR/logs tell
    what runs. The configuration file is not read; variables of the environment are.
    """
    if nodes > 1:
        from mgmtnode.cli.dev_cluster import Wanted, run_cluster

        return run_cluster(Wanted(data_dir, nodes, host, port, hosts, log_level, restart))
    return _one_node(host, port, data_dir, hosts, log_level)


def _one_node(host: str, port: int, data_dir: Path, hosts: int, log_level: str | None) -> int:
    from mgmtnode.config import core_properties as core
    from mgmtnode.config.file import Properties

    properties = Properties.load(None, os.environ)
    properties.override(core.API_HOST, host, "--host")
    properties.override(core.API_PORT, port, "--port")
    properties.override(core.DATA_DIR, str(data_dir), "--data-dir")
    if log_level:
        properties.override(core.LOG_LEVEL, log_level, "--log-level")
    return serve_until_told(properties, lambda node: _welcome(node, hosts, host))


async def _welcome(node: ManagementNode, hosts: int, host: str) -> None:
    """Makes the development cloud, on the first start, and tells the operator how to use it."""
    from mgmtnode.cli.seed import seed_node

    await seed_node(node, hosts)
    url, token = f"http://{reachable(host)}:{node.api.port}", (node.data_dir / "admin-token").absolute()
    lines = (
        "A development node: one process, simulated hosts, nothing for production. Ctrl-C stops it.",
        *first_steps(url, token),
    )
    click.echo("\n".join(lines), err=True)
    await say_ready(node)


def first_steps(url: str, token: Path) -> tuple[str, ...]:
    """What somebody who has just started a cloud wants to know."""
    return (
        f"  console   {url}/docs   every call of the API, to read and to try",
        f"  token     {token}",
        "  first VM, in another terminal:",
        f"    export MGMTNODE_URL={url} MGMTNODE_TOKEN_FILE={shlex.quote(str(token))}",
        f"    {_mnctl()} vm launch web-1",
    )


def _mnctl() -> str:
    """How the client is called here: by its name if the shell finds it, else by the path beside this program."""
    beside = Path(sys.executable).parent / "mnctl"
    return "mnctl" if shutil.which("mnctl") or not beside.exists() else shlex.quote(str(beside))
