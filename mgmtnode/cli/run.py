"""``mgmtnode run`` and ``mgmtnode dev``: reads the settings and hands over to the node."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgmtnode.cli.settings import config_option, read_properties

if TYPE_CHECKING:
    from mgmtnode.config.file import Properties
    from mgmtnode.node import ManagementNode
    from mgmtnode.serve import Ready

DEV_DIRECTORY = Path("data")  # where mnctl looks for the token


@click.command()
@config_option
def run(config_file: Path | None) -> int:
    """Run a management node until it is told to stop (SIGTERM or Ctrl-C: it drains first).

    Exit codes: 0 stopped, 1 failed, 75 try again later (database or broker away, or evicted), 78 bad
    configuration.
    """
    return _serve(read_properties(config_file), _say_ready)


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
    help="Where the database is kept from one run to the next.",
)
@click.option("--hosts", default=10, show_default=True, type=click.IntRange(0, 1000), help="Simulated hosts.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Overrides log.level."
)
def dev(host: str, port: int, data_dir: Path, hosts: int, log_level: str | None) -> int:
    """Run one node with SQLite, an in-memory bus and simulated hosts. Not for production.

    The configuration file is not read; variables of the environment are.
    """
    from mgmtnode.config import core_properties as core
    from mgmtnode.config.file import Properties

    properties = Properties.load(None, os.environ)
    properties.override(core.API_HOST, host, "--host")
    properties.override(core.API_PORT, port, "--port")
    properties.override(core.DATA_DIR, str(data_dir), "--data-dir")
    if log_level:
        properties.override(core.LOG_LEVEL, log_level, "--log-level")
    return _serve(properties, lambda node: _welcome(node, hosts, host))


async def _welcome(node: ManagementNode, hosts: int, host: str) -> None:
    """Makes the development cloud, on the first start, and tells the operator how to use it."""
    from mgmtnode.cli.seed import Seed

    await Seed(hosts)(node)
    url, token = f"http://{_reachable(host)}:{node.api.port}", (node.data_dir / "admin-token").absolute()
    lines = (
        "A development node: one process, simulated hosts, nothing for production. Ctrl-C stops it.",
        f"  console   {url}/docs   every call of the API, to read and to try",
        f"  token     {token}",
        "  first VM, in another terminal:",
        f"    export MGMTNODE_URL={url} MGMTNODE_TOKEN_FILE={shlex.quote(str(token))}",
        f"    {_mnctl()} vm launch web-1",
    )
    click.echo("\n".join(lines), err=True)
    await _say_ready(node)


def _mnctl() -> str:
    """How the client is called here: by its name if the shell finds it, else by the path beside this program."""
    beside = Path(sys.executable).parent / "mnctl"
    return "mnctl" if shutil.which("mnctl") or not beside.exists() else shlex.quote(str(beside))


async def _say_ready(node: ManagementNode) -> None:
    """One line on standard output, for people and for scripts that wait for it."""
    click.echo(f"ready http://{_reachable(node.host)}:{node.api.port}")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def _serve(properties: Properties, ready: Ready) -> int:
    import uvloop

    from mgmtnode.cli.process import raise_file_limit, settle_memory
    from mgmtnode.serve import serve

    async def settled(node: ManagementNode) -> None:
        settle_memory()
        await ready(node)

    raise_file_limit()
    return uvloop.run(serve(properties, settled))
