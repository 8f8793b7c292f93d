"""``mnctl config`` and ``mnctl tag``: global configs, and tags on resources."""

from __future__ import annotations

from typing import Any

import click

from mgmtnode.client.mnctl import listing, nouns, outcome, render, values
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.kinds import Kind, kind_of
from mgmtnode.client.mnctl.outcome import Sent, Waiting

CONFIG = Kind(
    "config", "global-configs", "Global configs",
    columns=("name", "value", "default", "description"), wide=("type", "unit"),
)  # fmt: skip
TAGS = {
    False: Kind("tag", "user-tags", "User tags", columns=("tag", "resource_type", "resource_uuid", "uuid")),
    True: Kind(
        "tag", "system-tags", "System tags", columns=("tag", "resource_type", "resource_uuid", "uuid")
    ),
}


@click.group("config", help="Global configs: list, show, set, reset.")
def config() -> None: ...


config.add_command(listing.command(CONFIG))


@config.command("show", cls=Leaf, help="Show all of one.")
@click.argument("name")
@pass_app
def show_config(app: App, name: str) -> None:
    render.whole(app, app.client.global_configs.find(name))


@config.command("set", cls=Leaf, help="Set a value, for all nodes, at once.")
@click.argument("name")
@click.argument("value")
@pass_app
def set_config(app: App, name: str, value: str) -> int:
    job = app.client.global_configs.update(name, value=values.loose(value))
    return outcome.conclude(app, CONFIG, [Sent(f"config {name}", "set", job)], Waiting())


@config.command("reset", cls=Leaf, help="Back to the default.")
@click.argument("name")
@pass_app
def reset_config(app: App, name: str) -> int:
    job = app.client.global_configs.action("reset", name)
    return outcome.conclude(app, CONFIG, [Sent(f"config {name}", "reset", job)], Waiting())


@click.group("tag", help="Tags: list, show, create, delete; --system for system tags.")
def tag() -> None: ...


SYSTEM = click.Option(["--system"], is_flag=True, help="System tags instead of user tags.")


@tag.command("list", cls=Leaf, params=[*listing.options(), SYSTEM], help="List tags.", epilog=listing.EPILOG)
@pass_app
def list_tags(app: App, /, system: bool, **given: Any) -> None:
    listing.show(app, TAGS[system], **given)


@tag.command("show", cls=Leaf, params=[SYSTEM], help="Show all of one.")
@click.argument("uuid")
@pass_app
def show_tag(app: App, system: bool, uuid: str) -> None:
    render.whole(app, app.client.collection(TAGS[system].plural).get(uuid))


@tag.command("create", cls=Leaf, params=[SYSTEM], help="Tag a resource: mnctl tag create vm web-1 env::prod.")
@click.argument("noun")
@click.argument("key", metavar="NAME|UUID")
@click.argument("text", metavar="TAG")
@pass_app
def create_tag(app: App, system: bool, noun: str, key: str, text: str) -> int:
    kind = kind_of(noun)
    uuid = values.resolve(app, kind.noun, key)
    job = app.client.collection(TAGS[system].plural).create(resource_uuid=uuid, tag=text)
    return outcome.conclude(app, TAGS[system], [Sent(f"tag {text}", "created", job)], Waiting())


@tag.command("delete", cls=Leaf, params=[SYSTEM, nouns.yes()], help="Take a tag away.")
@click.argument("uuid")
@pass_app
def delete_tag(app: App, system: bool, yes: bool, uuid: str) -> int:
    values.confirm(f"Delete tag {uuid}?", yes)
    job = app.client.collection(TAGS[system].plural).delete(uuid)
    return outcome.conclude(app, TAGS[system], [Sent(f"tag {uuid}", "deleted", job)], Waiting())
