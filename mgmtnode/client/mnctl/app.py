"""One run of ``mnctl``: its global options, and the client made from them when first needed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mgmtnode.client.settings import Settings, is_local, read_token, split_urls

if TYPE_CHECKING:
    from mgmtnode.client.exchange import Lost, Reply, Send
    from mgmtnode.client.sync import Client

FORMATS = ("table", "wide", "json", "yaml")
FIRST_CONTACT = 10.0
PATIENCE = 60.0


@dataclass
class App:
    url: str | None = None
    token: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    output: str = "table"
    debug: bool = False
    told: bool = False
    _client: list[Client] = field(default_factory=list)

    @property
    def client(self) -> Client:
        if not self._client:
            from mgmtnode.client.sync import Client

            client = Client.from_settings(self.settings(), retry_for=FIRST_CONTACT, observer=self._observe)
            client.caller.on_retry = self._retrying
            self._client.append(client)
        return self._client[0]

    def close(self) -> None:
        for client in self._client:
            client.close()
        self._client.clear()

    def settings(self) -> Settings:
        """Flags before environment before login before what a node on this machine left for its developer.

        A token from the login file goes only to the URL it was issued by.
        """
        from mgmtnode.client.mnctl import store

        try:
            env, login = Settings.from_env(), store.load().context
            chosen = split_urls(self.url or os.environ.get("MGMTNODE_URL", ""))
            login_urls = split_urls(login.url) if login else ()
            urls = chosen or login_urls or env.urls
            token = self.token or read_token(self.token_file) or env.token
        except (ValueError, OSError) as exc:
            raise click.UsageError(str(exc)) from exc
        ca_file = self.ca_file or env.ca_file
        if login and urls == login_urls:
            token, ca_file = token or login.token, ca_file or login.ca_file
        return Settings(urls, token or (_admin_token() if is_local(urls) else None), ca_file)

    def note(self, text: str) -> None:
        """For people, on stderr; results go to stdout."""
        click.echo(text, err=True)

    def _observe(self, step: Send, answer: Reply | Lost, seconds: float) -> None:
        from mgmtnode.client.exchange import Reply

        if self.debug:
            from mgmtnode.client.mnctl import trace

            click.echo(trace.describe(step, answer, seconds), err=True)
        if isinstance(answer, Reply):
            self.client.caller.retry_for = PATIENCE  # it did work: worth more patience than a wrong URL

    def _retrying(self, reason: str, seconds: float) -> None:
        if not self.told:
            self.told = True
            self.note(f"{reason}; trying again")


def _admin_token() -> str | None:
    """The token a development node wrote for its own user."""
    try:
        return read_token(Path(os.environ.get("MGMTNODE_DATA_DIR") or "data") / "admin-token")
    except (OSError, UnicodeDecodeError):
        return None


def _keep(context: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and param.name:
        setattr(context.ensure_object(App), param.name, value)


def common() -> list[click.Parameter]:
    """The options that every command takes, before or after its words."""
    keep: dict[str, Any] = {"expose_value": False, "callback": _keep, "default": None}
    return [
        click.Option(["-o", "--output"], type=click.Choice(FORMATS), help="Output format.", **keep),
        click.Option(["--url"], metavar="URL[,URL…]", help="Management nodes (MGMTNODE_URL).", **keep),
        click.Option(["--token"], help="Bearer token (MGMTNODE_TOKEN).", **keep),
        click.Option(["--token-file"], type=click.Path(), help="File with it (MGMTNODE_TOKEN_FILE).", **keep),
        click.Option(
            ["--ca-file"], type=click.Path(), help="Certificate authority (MGMTNODE_CA_FILE).", **keep
        ),
        click.Option(["--debug"], is_flag=True, help="Show the HTTP exchange on stderr.", **keep),
    ]


class Leaf(click.Command):
    """A command with a verb: takes the common options too, and closes the client when it is done."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *common()]

    def invoke(self, ctx: click.Context) -> Any:
        app = ctx.ensure_object(App)
        ctx.call_on_close(app.close)
        return super().invoke(ctx)


pass_app = click.make_pass_decorator(App, ensure=True)


def interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
