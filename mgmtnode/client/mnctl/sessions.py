"""``mnctl session``: who is logged in."""

from __future__ import annotations

import click

from mgmtnode.client.mnctl import listing, nouns, values
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.kinds import Kind

SESSION = Kind(
    "session",
    "sessions",
    "Sessions",
    columns=("account_uuid", "user_uuid", "created_at", "expires_at", "uuid"),
)


@click.group("session", help="Sessions: list, delete.")
def group() -> None: ...


group.add_command(listing.command(SESSION))


@group.command(
    "delete", cls=Leaf, params=[nouns.yes()], help="End a session; its token opens nothing any more."
)
@click.argument("uuid")
@pass_app
def delete(app: App, uuid: str, yes: bool) -> None:
    values.confirm(f"End session {uuid}?", yes)
    app.client.collection("sessions").delete(uuid)
    app.note(f"session {uuid}: ended")
