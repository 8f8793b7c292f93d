"""cli.md: the two command lines, from their own definitions."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from mgmtnode.cli.main import COMMANDS, cli
from mgmtnode.client.mnctl.app import common
from mgmtnode.client.mnctl.main import root
from scripts.reference.installation import Installation
from scripts.reference.words import HEAD, cell, code, table

INTRO = """\
# Command lines

`mgmtnode` is for whoever runs a node, `mnctl` for whoever uses the cloud: [How to use
mnctl](../how-to/mnctl.md). Both have `--help` at every word. Every variable `MGMTNODE_SECTION_KEY`
overrides a [global property](global-properties.md).

"""
EXITS = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 conflict, 6 still running, "
    "7 no capacity, 8 unreachable."
)
COMMON = {str(param.name) for param in common()}


def page(here: Installation) -> str:
    parts = [HEAD, INTRO, "## mgmtnode\n\n"]
    for name in COMMANDS:
        parts += _command(f"mgmtnode {name}", _get(cli, name), set())
    rows = [(_names(option), option.help or "") for option in common() if isinstance(option, click.Option)]
    parts += ["## mnctl\n\nEvery command takes these:\n\n", table(("option", ""), rows), EXITS + "\n\n"]
    for name in root.list_commands(click.Context(root)):
        parts += _command(f"mnctl {name}", _get(root, name), COMMON)
    return "".join(parts).rstrip() + "\n"


def _get(group: click.Group, name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


def _command(path: str, command: click.Command, skip: set[str], level: int = 3) -> Iterator[str]:
    yield f"{'#' * level} {path}\n\n"
    yield _help(command)
    if isinstance(command, click.Group):
        names = command.list_commands(click.Context(command))
        if skip:
            yield _verbs(path, command, names, skip)
            return
        for name in names:
            yield from _command(f"{path} {name}", _get(command, name), skip, level + 1)
        return
    yield f"`{_usage(path, command)}`\n\n" + table(("option", ""), _options(command, skip))


def _help(command: click.Command) -> str:
    text = cleandoc(command.help or "")
    return f"{text}\n\n" if text else ""


def _verbs(path: str, group: click.Group, names: list[str], skip: set[str]) -> str:
    """The verbs of a noun in one table: a line each, with its options."""
    rows = []
    for name in names:
        verb = _get(group, name)
        options = "<br>".join(f"{names} {text}" for names, text in _options(verb, skip))
        rows.append((code(_usage(f"{path} {name}", verb)), cell(_help(verb)), options))
    return table(("command", "", "options"), rows)


def _usage(path: str, command: click.Command) -> str:
    words = [str(p.metavar or str(p.name).upper()) for p in command.params if isinstance(p, click.Argument)]
    return " ".join([path, *words])


def _options(command: click.Command, skip: set[str]) -> list[tuple[str, str]]:
    options = [
        p for p in command.params if isinstance(p, click.Option) and p.name not in skip and not p.hidden
    ]
    return [(_names(option), _said(option)) for option in options]


def _names(option: click.Option) -> str:
    names = ", ".join(option.opts) + (
        f" / {', '.join(option.secondary_opts)}" if option.secondary_opts else ""
    )
    return code(names if option.is_flag else f"{names} {option.metavar or _type(option)}")


def _type(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(str(choice) for choice in option.type.choices)
    return option.type.name.replace(" range", "").upper()


def _said(option: click.Option) -> str:
    text = option.help or ""
    return f"{text} Default: {option.default}." if option.show_default is True else text
