"""``mnctl event watch``: what happens in the cluster, as it happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from mgmtnode.client.mnctl import render, yaml
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.sse import Event


@click.group("event", help="Events: watch.")
def group() -> None: ...


@group.command("watch", cls=Leaf, help="Print events until Ctrl-C; reconnects where it left off.")
@click.option("--since", metavar="ID", help="Begin after this event id.")
@click.option(
    "--type", "types", multiple=True, help="Only this type, such as vm.started; vm.* for all of vm."
)
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many.")
@pass_app
def watch(app: App, since: str | None, types: tuple[str, ...], limit: int | None) -> None:
    """JSON is one object a line, so that it can be read while it grows."""
    last, shown = since, 0
    try:
        params = {"types": ",".join(types)} if types else None
        for event in app.client.events(last_event_id=since, params=params):
            last = event.id
            click.echo(line(app, event))
            shown += 1
            if shown == limit:
                return
    except KeyboardInterrupt:
        app.note(f"\nnext: mnctl event watch --since {last}" if last else "")


def line(app: App, event: Event) -> str:
    if app.output == "json":
        return msgspec.json.encode({"id": event.id, "type": event.type, "data": event.data}).decode()
    if app.output == "yaml":
        return "---\n" + yaml.dump({"id": event.id, "type": event.type, "data": event.data}).rstrip("\n")
    data = event.data if isinstance(event.data, dict) else {}
    parts = [data.get("at"), event.type, data.get("resource_uuid"), *_said(data), data.get("reason")]
    return render.plain("  ".join(str(part) for part in parts if part))


def _said(data: dict[str, Any]) -> Iterator[str]:
    """What the event says: of the resource its name and state, and its own plain fields."""
    for name, value in (data.get("body") or {}).items():
        if isinstance(value, dict):
            yield from (str(value[word]) for word in ("name", "state", "status") if value.get(word))
        elif name.endswith("name"):
            yield str(value)
        elif name != "resource_uuid" and value not in (None, "", []):
            yield f"{name}={value}"
