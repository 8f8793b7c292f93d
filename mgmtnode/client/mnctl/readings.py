"""Answers that are not resources: what a noun tells beside itself, ``mnctl capacity`` and ``mnctl whoami``."""

from __future__ import annotations

from typing import Any

import click

from mgmtnode.client.mnctl import naming, render, values
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.complete import names
from mgmtnode.client.mnctl.kinds import BY_NOUN, Kind, Reading


def command(kind: Kind, reading: Reading) -> click.Command:
    @pass_app
    def run(app: App, key: str) -> None:
        uuid = values.resolve(app, kind.noun, key)
        found = app.client.request("GET", f"/v1/{kind.plural}/{uuid}/{reading.path}").json()
        if reading.items and app.output not in ("json", "yaml"):
            return render.many(app, reading.columns, found[reading.items])
        return whole(app, found)

    argument = click.Argument(["key"], metavar="NAME|UUID", shell_complete=names(kind))
    return Leaf(reading.name, callback=run, params=[argument], help=reading.help)


def check_ip(kind: Kind) -> click.Command:
    @pass_app
    def run(app: App, key: str, ip: str) -> None:
        from mgmtnode.contracts.network import CheckIp

        whole(app, app.client.call(CheckIp(uuid=values.resolve(app, kind.noun, key), ip=ip)))

    params = [
        click.Argument(["key"], metavar="NAME|UUID", shell_complete=names(kind)),
        click.Argument(["ip"]),
    ]
    return Leaf("check-ip", callback=run, params=params, help="Whether an address is free.")


def whole(app: App, found: Any) -> None:
    """All of an answer; sizes as people write them, unless a program reads."""
    if app.output in ("table", "wide") and isinstance(found, dict):
        found = {k: render.size(v) if _bytes(k, v) else v for k, v in found.items()}
    render.whole(app, found)


def _bytes(name: str, value: Any) -> bool:
    return name.startswith("memory") and isinstance(value, int)


@click.command("whoami", cls=Leaf, help="Whom the token stands for.")
@pass_app
def whoami(app: App) -> None:
    from mgmtnode.contracts.session import GetIdentity

    found = app.client.call(GetIdentity())
    if app.output in ("table", "wide"):
        names_ = naming.lookup(app, ("user_uuid",), [found])
        user = found.get("user_uuid")
        shown = {"account": found["account_name"], "user": names_.get(user, user), "admin": found["admin"]}
        return render.whole(app, {k: v for k, v in shown.items() if v is not None})
    return render.whole(app, found)


def _place(noun: str) -> click.Option:
    return click.Option(
        [f"--{noun}"], metavar=noun.upper(), help=f"Of this {noun}.", shell_complete=names(BY_NOUN[noun])
    )


@click.command(
    "capacity", cls=Leaf, params=[_place("zone"), _place("cluster"), _place("host")],
    help="Free CPU and memory of everything, or of a zone, a cluster or a host.",
)  # fmt: skip
@pass_app
def capacity(app: App, /, **given: str | None) -> None:
    from mgmtnode.contracts.allocator import GetCapacity

    places = {f"{noun}_uuid": values.resolve(app, noun, key) for noun, key in given.items() if key}
    whole(app, app.client.call(GetCapacity(**places)))
