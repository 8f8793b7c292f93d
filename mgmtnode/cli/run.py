"""``mgmtnode run``: reads the settings and hands over to the node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgmtnode.cli.settings import config_option, read_properties

if TYPE_CHECKING:
    from mgmtnode.config.file import Properties
    from mgmtnode.node import ManagementNode
    from mgmtnode.serve import Ready


PRIVATE = 0o077  # hashes of passwords and tokens are for the account of the node alone


@click.command()
@config_option
def run(config_file: Path | None) -> int:
    """Run a management node until it is told to stop (SIGTERM or Ctrl-C: it drains first).

    Exit codes: 0 stopped, 1 failed, 75 try again later (database or broker away, or evicted), 78 bad
    configuration.
    """
    return serve_until_told(read_properties(config_file), say_ready)


async def say_ready(node: ManagementNode) -> None:
    """One line on standard output, for people and for scripts that wait for it."""
    click.echo(f"ready http://{reachable(node.host)}:{node.api.port}")


def reachable(host: str) -> str:
    """How this machine reaches what listens on ``host``, as it stands in a URL."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def serve_until_told(properties: Properties, ready: Ready) -> int:
    """Runs a node on an event loop of its own; ``ready(node)`` runs once it serves. Returns the exit code."""
    import uvloop

    from mgmtnode.cli.process import raise_file_limit, settle_memory
    from mgmtnode.serve import serve

    async def settled(node: ManagementNode) -> None:
        settle_memory()
        await ready(node)

    os.umask(PRIVATE)
    raise_file_limit()
    return uvloop.run(serve(properties, settled))
