"""The command ``mgmtnode``: names its subcommands and imports only the one that is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from mgmtnode import __version__
from mgmtnode.cli.failure import report

COMMANDS = {
    "run": ("mgmtnode.cli.run:run", "Run a management node."),
    "dev": (
        "mgmtnode.cli.dev:dev",
        "Run a cloud of simulated hosts on this machine: one node, or a cluster.",
    ),
    "services": ("mgmtnode.cli.services:services", "List the services and what each declares."),
    "config": ("mgmtnode.cli.config:config", "Print, show or check the configuration of a node."),
    "doctor": ("mgmtnode.cli.doctor:doctor", "Check whether a node can run on this machine."),
    "cluster": ("mgmtnode.cli.cluster:cluster", "Show the nodes and the ring; drain or evict a node."),
    "db": ("mgmtnode.cli.db:db", "Bring the database's schema up to date, or check it."),
}


class Lazy(click.Group):
    """Help comes from the table above, so that ``--help`` imports no part of the node."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mgmtnode")
@click.option("--traceback", is_flag=True, help="Print where an error comes from.")
def cli(traceback: bool) -> None:
    """A management node of a private cloud, for the operator. `mnctl` is the command line of its API."""


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(invoke(arguments))


def invoke(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; a failure is one line on standard error."""
    try:
        code = cli.main(list(arguments), prog_name="mgmtnode", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as exc:
        if "--traceback" in arguments:
            raise
        return report(exc)
    return code if isinstance(code, int) else 0
