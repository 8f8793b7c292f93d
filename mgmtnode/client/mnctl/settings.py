"""``mnctl config``: global configs, and overrides of them on single resources."""

from __future__ import annotations

from typing import Any

import click

from mgmtnode.client.mnctl import listing, outcome, render, values
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.kinds import Kind
from mgmtnode.client.mnctl.outcome import Sent, Waiting

CONFIG = Kind(
    "config", "global-configs", "Global configs",
    columns=("name", "value", "default", "unit", "description"), wide=("type", "choices", "overridable"),
    sort="name",
)  # fmt: skip
HERE = ("name", "value", "unit", "source")
On = tuple[str, str]


def on(text: str) -> click.Option:
    return click.Option(["--on"], nargs=2, metavar="NOUN NAME|UUID", help=text)


@click.group("config", help="Global configs: list, show, set, reset; --on NOUN NAME for one resource.")
def config() -> None: ...


@config.command(
    "list", cls=Leaf, epilog=listing.EPILOG, help="List: global configs.",
    params=[*listing.options(), on("What holds for this resource: --on host host-1.")],
)  # fmt: skip
@pass_app
def list_configs(app: App, /, on: On | None, **given: Any) -> None:
    if on is None:
        return listing.show(app, CONFIG, **given)
    from mgmtnode.contracts.config import GetResourceConfigs

    found = app.client.call(GetResourceConfigs(resource_uuid=values.resolve(app, *on)))
    return render.many(app, HERE, found["configs"])


@config.command("show", cls=Leaf, help="Show all of one.")
@click.argument("name")
@pass_app
def show_config(app: App, name: str) -> None:
    render.whole(app, app.client.global_configs.get(name))


@config.command(
    "set", cls=Leaf, help="Set a value, for all nodes, at once.",
    params=[on("Only for this resource and what is in it: --on host host-1.")],
)  # fmt: skip
@click.argument("name")
@click.argument("value")
@pass_app
def set_config(app: App, /, name: str, value: str, on: On | None) -> int:
    if on is None:
        job = app.client.global_configs.update(name, value=scalar(value))
        return outcome.conclude(app, CONFIG, [Sent(f"config {name}", "set", job)], Waiting())
    from mgmtnode.contracts.config import SetResourceConfig

    message = SetResourceConfig(resource_uuid=values.resolve(app, *on), name=name, value=scalar(value))
    sent = Sent(f"config {name} of {' '.join(on)}", "set", app.client.submit(message), _row)
    return outcome.conclude(app, CONFIG, [sent], Waiting())


@config.command(
    "reset", cls=Leaf, help="Back to the default; with --on, to what holds above the resource.",
    params=[on("Take the value of this resource away: --on host host-1.")],
)  # fmt: skip
@click.argument("name")
@pass_app
def reset_config(app: App, /, name: str, on: On | None) -> int:
    if on is None:
        job = app.client.global_configs.action("reset", name)
        return outcome.conclude(app, CONFIG, [Sent(f"config {name}", "reset", job)], Waiting())
    from mgmtnode.contracts.config import ResetResourceConfig

    message = ResetResourceConfig(resource_uuid=values.resolve(app, *on), name=name)
    sent = Sent(f"config {name} of {' '.join(on)}", "reset", app.client.submit(message), _row)
    return outcome.conclude(app, CONFIG, [sent], Waiting())


def _row(app: App, result: Any) -> None:
    render.many(app, HERE, [result])


def scalar(text: str) -> Any:
    """A number or a boolean if it reads as one; everything else, also other JSON, is text."""
    value = values.loose(text)
    return value if isinstance(value, bool | int | float) else text
