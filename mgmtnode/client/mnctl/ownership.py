"""Whose a resource is and who else may use it: ``ownership``, ``share``, ``unshare`` and ``change-owner`` of a noun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mgmtnode.client.mnctl import naming, outcome, render, values
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.complete import names
from mgmtnode.client.mnctl.kinds import BY_NOUN, Kind
from mgmtnode.client.mnctl.outcome import Sent, Waiting

if TYPE_CHECKING:
    from mgmtnode.client.operations import ApiMessage


@dataclass(frozen=True, slots=True)
class Sending:
    """What is said of a change, and how it is waited for."""

    label: str
    done: str
    wait: bool = True
    timeout: float | None = None
    dry_run: bool = False


def commands(kind: Kind) -> dict[str, Callable[[], click.Command]]:
    """The verbs by name; each is built when it is used."""
    found: dict[str, Callable[[], click.Command]] = {}
    if kind.shareable:
        found["ownership"] = lambda: ownership(kind)
        found["share"] = lambda: sharing(kind, "share", "Let others see and use it, not change it.")
        found["unshare"] = lambda: sharing(
            kind, "unshare", "Take back what was shared; what uses it goes on."
        )
    if kind.movable:
        found["change-owner"] = lambda: change_owner(kind)
    return found


def _key(kind: Kind) -> click.Argument:
    return click.Argument(["key"], metavar="NAME|UUID", shell_complete=names(kind))


def _account(required: bool = False) -> click.Option:
    return click.Option(
        ["--account"], required=required, metavar="ACCOUNT", help="The account.",
        shell_complete=names(BY_NOUN["account"]),
    )  # fmt: skip


def ownership(kind: Kind) -> click.Command:
    @pass_app
    def run(app: App, key: str) -> None:
        from mgmtnode.contracts.ownership import GetOwnership

        tell(app, app.client.call(GetOwnership(uuid=values.resolve(app, kind.noun, key))))

    return Leaf("ownership", callback=run, params=[_key(kind)], help="Whose it is, and who may see it.")


def sharing(kind: Kind, verb: str, text: str) -> click.Command:
    @pass_app
    def run(app: App, /, key: str, account: str | None, everybody: bool, **given: Any) -> int:
        from mgmtnode.contracts.ownership import ShareResource, UnshareResource

        if everybody == (account is not None):
            raise click.UsageError("with whom? give --account ACCOUNT or --everybody")
        uuid = values.resolve(app, kind.noun, key)
        other = values.resolve(app, "account", account) if account else None
        message = (ShareResource if verb == "share" else UnshareResource)(uuid=uuid, account_uuid=other)
        return _send(app, message, Sending(f"{kind.noun} {key}", f"{verb}d", **given))

    everybody = click.Option(["--everybody"], is_flag=True, help="All accounts.")
    params = [_key(kind), _account(), everybody, *outcome.options()]
    return Leaf(verb, callback=run, params=params, help=text)


def change_owner(kind: Kind) -> click.Command:
    @pass_app
    def run(app: App, /, key: str, account: str, **given: Any) -> int:
        from mgmtnode.contracts.ownership import ChangeOwner

        uuid = values.resolve(app, kind.noun, key)
        message = ChangeOwner(uuid=uuid, account_uuid=values.resolve(app, "account", account))
        return _send(app, message, Sending(f"{kind.noun} {key}", f"belongs to {account}", **given))

    params = [_key(kind), _account(required=True), *outcome.options()]
    return Leaf("change-owner", callback=run, params=params, help="Give it to another account.")


def _send(app: App, message: ApiMessage, sending: Sending) -> int:
    job = app.client.submit(message, dry_run=sending.dry_run)
    sent = Sent(sending.label, sending.done, job, tell)
    return outcome.conclude(
        app,
        Kind("resource", "resources", ""),
        [sent],
        Waiting(sending.wait, sending.timeout, sending.dry_run),
    )


def tell(app: App, found: Any) -> None:
    """Accounts by name, for people."""
    if app.output in ("json", "yaml") or not isinstance(found, dict):
        return render.whole(app, found)
    rows = [{"account_uuid": uuid} for uuid in (found["account_uuid"], *found["shared_with"])]
    accounts = naming.lookup(app, ("account_uuid",), rows)
    others = ["everybody"] if found.get("public") else []
    others += [accounts.get(uuid, uuid) for uuid in found["shared_with"]]
    shown = {"owner": accounts.get(found["account_uuid"], found["account_uuid"]), "shared with": others}
    render.whole(app, shown)
    return None
