"""``mnctl event watch``: what happens in the cluster, as it happens."""

from __future__ import annotations

import click
import msgspec

from mgmtnode.client.mnctl import yaml
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
        for event in app.client.events(last_event_id=since):
            last = event.id
            if types and not any(_matches(event.type, pattern) for pattern in types):
                continue
            click.echo(line(app, event))
            shown += 1
            if shown == limit:
                return
    except KeyboardInterrupt:
        app.note(f"\nnext: mnctl event watch --since {last}" if last else "")


def _matches(kind: str, pattern: str) -> bool:
    return kind == pattern or (pattern.endswith("*") and kind.startswith(pattern[:-1]))


def line(app: App, event: Event) -> str:
    if app.output == "json":
        return msgspec.json.encode({"id": event.id, "type": event.type, "data": event.data}).decode()
    if app.output == "yaml":
        return "---\n" + yaml.dump({"id": event.id, "type": event.type, "data": event.data}).rstrip("\n")
    data = event.data if isinstance(event.data, dict) else {"data": event.data}
    about = [data.get(name) for name in ("resource_uuid", "uuid", "name", "state", "data")]
    return "  ".join(
        str(part) for part in (data.get("time") or data.get("created_at"), event.type, *about) if part
    )
