"""Shell completion of resource names: asked of the server, quickly or not at all."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from mgmtnode.client.errors import ClientError
from mgmtnode.client.mnctl.app import App
from mgmtnode.client.mnctl.kinds import Kind

TIMEOUT = 1.0
MOST = 50

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names(kind: Kind) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return _ask(ctx.ensure_object(App), kind, incomplete)
        except (ClientError, click.ClickException, OSError, LookupError):
            return []  # whatever is said now would land in the line being typed

    return complete


def _ask(app: App, kind: Kind, incomplete: str) -> list[CompletionItem]:
    from mgmtnode.client.sync import Client

    with Client.from_settings(app.settings(), timeout=TIMEOUT, retry_for=0.0) as client:
        found = client.collection(kind.plural).list(
            f"name~={incomplete}%", sort="name", fields=("uuid", "name"), limit=MOST
        )
        return [CompletionItem(item["name"]) for item in found if item["name"].startswith(incomplete)]
