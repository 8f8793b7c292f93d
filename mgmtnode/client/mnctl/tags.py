"""``mnctl tag``: tags on resources."""

from __future__ import annotations

from typing import Any

import click

from mgmtnode.client.mnctl import listing, nouns, outcome, render, values
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.kinds import Kind, kind_of
from mgmtnode.client.mnctl.outcome import Sent, Waiting

TAG = Kind(
    "tag", "tags", "Tags",
    columns=("text", "kind", "resource_type", "resource_uuid", "uuid"), wide=("inherent", "created_at"),
)  # fmt: skip
ON = click.Option(["--on"], nargs=2, metavar="NOUN NAME|UUID", help="Of this resource: --on vm web-1.")


@click.group("tag", help="Tags: list, show, create, update, delete.")
def group() -> None: ...


@group.command("list", cls=Leaf, params=[*listing.options(), ON], help="List tags.", epilog=listing.EPILOG)
@pass_app
def list_tags(app: App, /, on: tuple[str, str] | None, conditions: tuple[str, ...], **given: Any) -> None:
    more = (f"resource_uuid={values.resolve(app, *on)}",) if on else ()
    listing.show(app, TAG, (*conditions, *more), **given)


@group.command("show", cls=Leaf, help="Show all of one.")
@click.argument("uuid")
@pass_app
def show(app: App, uuid: str) -> None:
    render.whole(app, app.client.tags.get(uuid))


@group.command("create", cls=Leaf, help="Tag a resource: mnctl tag create vm web-1 env::prod.")
@click.argument("noun")
@click.argument("key", metavar="NAME|UUID")
@click.argument("text", metavar="TAG")
@click.option("--system", is_flag=True, help="A system tag, which a service gives a meaning to.")
@pass_app
def create(app: App, noun: str, key: str, text: str, system: bool) -> int:
    from mgmtnode.contracts.tag import CreateSystemTag, CreateUserTag

    uuid = values.resolve(app, kind_of(noun).noun, key)
    job = app.client.submit((CreateSystemTag if system else CreateUserTag)(resource_uuid=uuid, text=text))
    return outcome.conclude(app, TAG, [Sent(f"tag {text}", "created", job)], Waiting())


@group.command("update", cls=Leaf, help="Change the values in a system tag.")
@click.argument("uuid")
@click.argument("text", metavar="TAG")
@pass_app
def update(app: App, uuid: str, text: str) -> int:
    from mgmtnode.contracts.tag import UpdateSystemTag

    tag = app.client.tags.get(uuid)
    message = UpdateSystemTag(resource_uuid=tag["resource_uuid"], uuid=tag["uuid"], text=text)
    sent = Sent(f"tag {uuid}", "changed", app.client.submit(message))
    return outcome.conclude(app, TAG, [sent], Waiting())


@group.command("delete", cls=Leaf, params=[nouns.yes()], help="Take a tag away.")
@click.argument("uuid")
@pass_app
def delete(app: App, uuid: str, yes: bool) -> int:
    from mgmtnode.contracts.tag import DeleteTag

    tag = app.client.tags.get(uuid)
    values.confirm(f"Delete tag {tag['text']} of {tag['resource_type']} {tag['resource_uuid']}?", yes)
    job = app.client.submit(DeleteTag(resource_uuid=tag["resource_uuid"], uuid=tag["uuid"]))
    return outcome.conclude(app, TAG, [Sent(f"tag {tag['text']}", "deleted", job)], Waiting())
