"""Lists: ``mnctl vm list``, ``mnctl query vm …`` and every other noun."""

from __future__ import annotations

from typing import Any

import click

from mgmtnode.client.mnctl import render
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.kinds import KINDS, Kind, kind_of


def options() -> list[click.Parameter]:
    return [
        click.Argument(["conditions"], nargs=-1, metavar="[CONDITION]…"),
        click.Option(["--sort"], metavar="FIELD", help="Field to sort by; -FIELD for the other way round."),
        click.Option(["--limit"], type=click.IntRange(min=1), help="At most this many."),
        click.Option(["--fields"], metavar="FIELD[,FIELD…]", help="Only these fields."),
        click.Option(["--count"], is_flag=True, help="Only how many there are."),
    ]


EPILOG = (
    "A CONDITION is FIELD OPERATOR VALUE in one word, such as 'state!=Running' or "
    "'host.cluster.zone.name=west'; "
    "operators: = != > >= < <= ~= !~= (like, with %) ?= !?= (one of a,b,c). All conditions must hold."
)


def command(kind: Kind) -> click.Command:
    @pass_app
    def run(app: App, /, **given: Any) -> None:
        show(app, kind, **given)

    return Leaf(
        "list", callback=run, params=options(), help=f"List: {kind.help.lower()}.", epilog=EPILOG
    )  # fmt: skip


def show(
    app: App, kind: Kind, conditions: tuple[str, ...], sort: str | None, limit: int | None,
    fields: str | None, count: bool,
) -> None:  # fmt: skip
    for text in conditions:
        if not any(sign in text for sign in "=<>"):
            raise click.UsageError(f"{text!r} is not a condition such as 'name=web-1'; quote it")
    collection = app.client.collection(kind.plural)
    if count:
        render.whole(app, collection.count(conditions))
        return
    chosen = tuple(fields.split(",")) if fields else None
    found = collection.list(conditions, sort=sort or kind.sort or None, fields=chosen, limit=limit)
    render.many(app, chosen or render.columns(app, kind), found, raw=bool(chosen))


def _nouns(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [kind.noun for kind in KINDS if kind.noun.startswith(incomplete)]


@click.command(
    "query", cls=Leaf, epilog=EPILOG, params=[click.Argument(["noun"], shell_complete=_nouns), *options()],
    help="List any noun or plural, also of plug-in services: mnctl query vm 'state=Running'.",
)  # fmt: skip
@pass_app
def query(app: App, /, noun: str, **given: Any) -> None:
    show(app, kind_of(noun), **given)
