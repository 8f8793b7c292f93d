"""``mnctl login``, ``logout`` and ``context``: which management plane the commands talk to, and as whom."""

from __future__ import annotations

import sys

import click

from mgmtnode.client.errors import ClientError
from mgmtnode.client.mnctl import render, store
from mgmtnode.client.mnctl.app import App, Leaf, interactive, pass_app
from mgmtnode.client.mnctl.store import Context, Store


@click.command(
    "login", cls=Leaf, help="Open a session and remember it, with mode 600, for the commands that follow."
)
@click.option("--account", default="admin", show_default=True, help="Account.")
@click.option("--user", help="User of the account.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.option("--context", "name", default="default", show_default=True, help="Name to remember it by.")
@pass_app
def login(app: App, account: str, user: str | None, password_stdin: bool, name: str) -> None:
    if not password_stdin and not interactive():
        raise click.UsageError("nobody is there to type the password: use --password-stdin")
    password = (
        sys.stdin.readline().rstrip("\r\n")
        if password_stdin
        else click.prompt("Password", hide_input=True, err=True)
    )
    session = app.client.login(account, password, user)
    urls = ",".join(app.client.caller.urls)
    remembered = _load()
    remembered.contexts[name] = Context(
        url=urls,
        token=session["token"],
        account=account,
        session_uuid=session.get("uuid"),
        ca_file=app.client.ca_file,
    )
    remembered.current = name
    _save(remembered)
    app.note(f"logged in to {urls} as {account}")
    app.note("next: mnctl vm list")


@click.command("logout", cls=Leaf, help="End the session and forget it.")
@pass_app
def logout(app: App) -> None:
    remembered = _load()
    context = remembered.context
    if context is None or remembered.current is None:
        app.note("nobody is logged in")
        return
    if context.session_uuid:
        try:
            app.client.collection("sessions").delete(context.session_uuid)
        except ClientError as exc:
            app.note(f"the session is forgotten here, but was not ended there: {exc}")
    del remembered.contexts[remembered.current]
    remembered.current = next(iter(remembered.contexts), None)
    _save(remembered)
    app.note("logged out")


@click.group("context", help="Management planes that were logged in to: list, use, delete.")
def context() -> None: ...


@context.command("list", cls=Leaf, help="List them.")
@pass_app
def list_contexts(app: App) -> None:
    remembered = _load()
    rows = [store.as_dict(c, name == remembered.current, name) for name, c in remembered.contexts.items()]
    render.many(app, ("name", "current", "url", "account"), rows)


@context.command("use", cls=Leaf, help="Use this one from now on.")
@click.argument("name")
@pass_app
def use(app: App, name: str) -> None:
    remembered = _known(name)
    remembered.current = name
    _save(remembered)
    app.note(f"now using {remembered.contexts[name].url}")


@context.command("delete", cls=Leaf, help="Forget one, without ending its session.")
@click.argument("name")
def delete(name: str) -> None:
    remembered = _known(name)
    del remembered.contexts[name]
    if remembered.current == name:
        remembered.current = None
    _save(remembered)


def _known(name: str) -> Store:
    remembered = _load()
    if name not in remembered.contexts:
        known = ", ".join(remembered.contexts) or "none; run `mnctl login`"
        raise click.UsageError(f"there is no context {name!r}; there is: {known}")
    return remembered


def _load() -> Store:
    try:
        return store.load()
    except (ValueError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def _save(remembered: Store) -> None:
    try:
        store.save(remembered)
    except OSError as exc:
        raise click.ClickException(f"cannot write {store.path()}: {exc}") from exc
