"""``mnctl api``: any request of the API, for what has no command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from mgmtnode.client.mnctl import render
from mgmtnode.client.mnctl.app import App, Leaf, pass_app

METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")


@click.command(
    "api", cls=Leaf, help="Send one request: mnctl api GET /v1/zones; prints the JSON of the answer."
)
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("path")
@click.option("--data", help="JSON body; @FILE reads a file, - reads stdin.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Query parameter; repeatable.")
@pass_app
def command(app: App, method: str, path: str, data: str | None, params: tuple[str, ...]) -> None:
    pairs = [text.partition("=")[::2] for text in params]
    full = path if path.startswith("/") else f"/v1/{path}"
    reply = app.client.request(method, full, params=pairs, body=_body(data))
    if app.output == "table":
        app.output = "json"
    if reply.content:
        render.whole(app, reply.json())


def _body(data: str | None) -> Any:
    if data is None:
        return None
    try:
        text = sys.stdin.read() if data == "-" else data
        if data.startswith("@"):
            text = Path(data[1:]).read_text(encoding="utf-8")
        return msgspec.json.decode(text)
    except (OSError, msgspec.DecodeError) as exc:
        raise click.UsageError(f"--data: {exc}") from exc
