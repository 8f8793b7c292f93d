"""The entry point of ``mnctl``: the root command, whose parts are loaded when they are used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import click

from mgmtnode.client.errors import ClientError
from mgmtnode.client.mnctl.app import App, common
from mgmtnode.client.mnctl.kinds import BY_NOUN, KINDS
from mgmtnode.client.mnctl.problems import report

COMPLETE = "_MNCTL_COMPLETE"

# Command → where it is, and one line for the overview, which imports none of them.
WORK = {
    "job": ("jobs:group", "Jobs: list, show, watch, cancel"),
    "event": ("events:group", "Events: watch"),
    "config": ("settings:config", "Global configs, and overrides of them on resources"),
    "tag": ("tags:group", "User tags and system tags"),
    "capacity": ("readings:capacity", "Free CPU and memory"),
    "query": ("listing:query", "List any noun by conditions over any field"),
    "api": ("raw:command", "Send one raw request"),
}
ACCESS = {
    "login": ("login:login", "Open a session and remember it"),
    "logout": ("login:logout", "End the session and forget it"),
    "whoami": ("readings:whoami", "Whom the token stands for"),
    "session": ("sessions:group", "Sessions: list, delete"),
    "context": ("login:context", "Choose between management planes"),
    "completion": ("shell:command", "Print the completion script for a shell"),
}
SPECIAL = {**WORK, **ACCESS}
LISTED = ("job", "config", "tag", "session")  # these have a list, as nouns do


class Root(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*BY_NOUN, *SPECIAL]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in BY_NOUN:
            return _noun(cmd_name)
        if cmd_name not in SPECIAL:
            return None
        module, _, name = SPECIAL[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(f"mgmtnode.client.mnctl.{module}"), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in (
            ("Resources", [(kind.noun, kind.help) for kind in KINDS]),
            ("Work", [(name, text) for name, (_, text) in WORK.items()]),
            ("Access", [(name, text) for name, (_, text) in ACCESS.items()]),
        ):
            with formatter.section(title):
                formatter.write_dl(rows)


def _noun(noun: str) -> click.Command:
    from mgmtnode.client.mnctl.nouns import Noun

    return Noun(BY_NOUN[noun], EXTRA.get(noun, {}))


def _launch() -> click.Command:
    from mgmtnode.client.mnctl.launch import command

    return command()


def _check_ip() -> click.Command:
    from mgmtnode.client.mnctl.readings import check_ip

    return check_ip(BY_NOUN["l3-network"])


EXTRA: dict[str, dict[str, Callable[[], click.Command]]] = {
    "vm": {"launch": _launch},
    "l3-network": {"check-ip": _check_ip},
}


EPILOG = (
    "First steps: `mgmtnode dev` in one terminal, `mnctl vm launch web-1` in another. "
    "Exit codes: 0 ok, 1 failed, "
    "2 usage, 3 not found, 4 denied, 5 conflict, 6 still running, 7 no capacity, 8 unreachable."
)

root = Root(
    "mnctl", params=common(), epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]},
    help="The client command line of the management plane: mnctl NOUN VERB.",
)  # fmt: skip


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives the exit code; every outcome but success was explained on stderr."""
    app = App()
    try:
        code: Any = root.main(arguments, "mnctl", COMPLETE, standalone_mode=False, obj=app)
        return code if isinstance(code, int) else 0
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except click.Abort:
        app.note("interrupted; what was accepted goes on: mnctl job list 'state=Running'")
        return 1
    except ClientError as exc:
        return report(exc, app, _word(arguments))
    finally:
        app.close()


def _word(arguments: Sequence[str] | None) -> str:
    """The noun the user wrote, for the advice in an error."""
    words = sys.argv[1:] if arguments is None else arguments
    return next((word for word in words if word in BY_NOUN or word in LISTED), "")


def main() -> None:
    sys.exit(run())
