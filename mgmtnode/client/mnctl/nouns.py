"""The commands of a noun, built from its row in ``kinds``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from mgmtnode.client.errors import ClientError
from mgmtnode.client.mnctl import listing, outcome, ownership, readings, render, values
from mgmtnode.client.mnctl.app import App, Leaf, interactive, pass_app
from mgmtnode.client.mnctl.complete import names
from mgmtnode.client.mnctl.kinds import Action, Field, Kind, Reading
from mgmtnode.client.mnctl.outcome import Sent, Waiting
from mgmtnode.client.mnctl.problems import report

if TYPE_CHECKING:
    from mgmtnode.client.sync import Collection, Job

PAST = {
    "create": "created", "update": "updated", "delete": "deleted",
    "start": "started", "stop": "stopped", "reboot": "rebooted", "pause": "paused", "resume": "resumed",
    "migrate": "migrated", "recover": "recovered", "expunge": "expunged", "change-offering": "resized",
    "attach-nic": "has another NIC", "detach-nic": "has a NIC less", "change-password": "has a new password",
    "attach-policy": "has the policy", "detach-policy": "has the policy no more",
    "attach-cluster": "attached", "detach-cluster": "detached",
    "simulate-fault": "has the fault", "clear-faults": "has no faults any more",
    "enable": "enabled", "disable": "disabled", "maintain": "in maintenance", "reconnect": "reconnected",
}  # fmt: skip


class Noun(click.Group):
    """A noun; each verb is built when it is used, because most runs use one."""

    def __init__(self, kind: Kind, extra: dict[str, Callable[[], click.Command]]) -> None:
        super().__init__(kind.noun, help=f"{kind.help}.")
        self._makers: dict[str, Callable[[], click.Command]] = {
            **{verb: _verb(kind, verb) for verb in kind.verbs},
            **{action.name: _acting(kind, action) for action in kind.actions},
            **{reading.name: _reading(kind, reading) for reading in kind.readings},
            **ownership.commands(kind),
            **extra,
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._makers)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        maker = self._makers.get(cmd_name)
        return maker() if maker else None


def _verb(kind: Kind, verb: str) -> Callable[[], click.Command]:
    makers = {"create": create, "list": listing.command, "show": show, "update": update, "delete": delete}
    return lambda: makers[verb](kind)


def _acting(kind: Kind, action: Action) -> Callable[[], click.Command]:
    return lambda: act(kind, action)


def _reading(kind: Kind, reading: Reading) -> Callable[[], click.Command]:
    return lambda: readings.command(kind, reading)


def keys(kind: Kind, many: bool = True) -> click.Argument:
    return click.Argument(
        ["keys" if many else "key"], nargs=-1 if many else 1, required=True,
        metavar="NAME|UUID…" if many else "NAME|UUID", shell_complete=names(kind),
    )  # fmt: skip


def create(kind: Kind) -> click.Command:
    fields = _with_name(kind)

    @pass_app
    def run(
        app: App,
        /,
        assignments: tuple[str, ...],
        wait: bool,
        timeout: float | None,
        dry_run: bool,
        **given: Any,
    ) -> int:
        _ask_secrets(kind.fields, given)
        body = values.body(app, fields, given, assignments)
        if kind.named and not body.get("name"):
            raise click.UsageError("the name is empty")
        job = app.client.collection(kind.plural).create(body, dry_run=dry_run)
        sent = Sent(
            f"{kind.noun} {body.get('name') or job.resource_uuid or ''}".rstrip(), PAST["create"], job
        )
        return outcome.conclude(app, kind, [sent], Waiting(wait, timeout, dry_run))

    name: list[click.Parameter] = [click.Argument(["name"])] if kind.named else []
    params = [
        *name,
        *(values.option(f) for f in fields if f.name != "name" or not kind.named),
        values.setter(),
    ]
    return Leaf(
        "create",
        callback=run,
        params=[*params, *outcome.options()],
        help=f"Create: {kind.help.lower()}.",
    )


def _with_name(kind: Kind) -> tuple[Field, ...]:
    return (Field("name"), *kind.fields) if kind.named else kind.fields


def _ask_secrets(fields: Iterable[Field], given: dict[str, Any]) -> None:
    """A password that was not given is asked for, if somebody is there: a command line is no place for it."""
    for field in fields:
        if field.type == "secret" and given.get(field.name) is None and interactive():
            given[field.name] = click.prompt(
                f"{field.option} (empty: none)", hide_input=True, default="", show_default=False, err=True
            ) or None  # fmt: skip


def show(kind: Kind) -> click.Command:
    @pass_app
    def run(app: App, /, key: str) -> None:
        render.whole(app, app.client.collection(kind.plural).get(values.resolve(app, kind.noun, key)))

    return Leaf("show", callback=run, params=[keys(kind, many=False)], help="Show all fields of one.")


def update(kind: Kind) -> click.Command:
    name = (Field("name", help="New name."),) if "create" in kind.verbs else ()
    changing = [field for field in (*kind.fields, *kind.patches) if field.patch or field in kind.patches]
    fields = (*name, *(field for field in changing if field.name != "name"))

    @pass_app
    def run(
        app: App,
        /,
        key: str,
        assignments: tuple[str, ...],
        wait: bool,
        timeout: float | None,
        dry_run: bool,
        **given: Any,
    ) -> int:
        body = values.body(app, fields, given, assignments)
        if not body:
            raise click.UsageError("nothing to change: give an option or --set field=value")
        uuid = values.resolve(app, kind.noun, key)
        job = app.client.collection(kind.plural).update(uuid, body, dry_run=dry_run)
        return outcome.conclude(
            app, kind, [Sent(f"{kind.noun} {key}", PAST["update"], job)], Waiting(wait, timeout, dry_run)
        )

    params = [keys(kind, many=False), *(values.option(f) for f in fields), values.setter()]
    return Leaf(
        "update", callback=run, params=[*params, *outcome.options()],
        help="Change fields; --set field=null clears one.",
    )  # fmt: skip


def delete(kind: Kind) -> click.Command:
    @pass_app
    def run(
        app: App,
        keys: tuple[str, ...],
        force: bool,
        yes: bool,
        wait: bool,
        timeout: float | None,
        dry_run: bool,
    ) -> int:
        if not dry_run:
            values.confirm(f"Delete {kind.noun} {', '.join(keys)}?", yes)

        def send(collection: Collection, uuid: str) -> Job:
            return collection.delete(uuid, force=force, dry_run=dry_run)

        return _each(app, kind, "delete", keys, Waiting(wait, timeout, dry_run), send)

    force = click.Option(
        ["--force"], is_flag=True, help="Skip checks; go on when a part below cannot be cleaned up."
    )
    return Leaf("delete", callback=run, params=[keys(kind), force, yes(), *outcome.options()], help="Delete.")


def yes() -> click.Option:
    return click.Option(["-y", "--yes"], is_flag=True, help="Do not ask.")


def act(kind: Kind, action: Action) -> click.Command:
    @pass_app
    def run(
        app: App, /, keys: tuple[str, ...], assignments: tuple[str, ...], wait: bool, timeout: float | None,
        dry_run: bool, **given: Any,
    ) -> int:  # fmt: skip
        if action.confirm and not dry_run:
            values.confirm(f"{action.name.capitalize()} {kind.noun} {', '.join(keys)}?", given["yes"])
        _ask_secrets(action.fields, given)
        body = values.body(app, action.fields, given, assignments)

        def send(collection: Collection, uuid: str) -> Job:
            return collection.action(action.name, uuid, body, dry_run=dry_run)

        return _each(app, kind, action.name, keys, Waiting(wait, timeout, dry_run), send)

    params = [keys(kind), *(values.option(f) for f in action.fields), values.setter()]
    params += [yes()] if action.confirm else []
    return Leaf(action.name, callback=run, params=[*params, *outcome.options()], help=action.help)


def _each(
    app: App,
    kind: Kind,
    verb: str,
    keys: Iterable[str],
    waiting: Waiting,
    send: Callable[[Collection, str], Job],
) -> int:
    """Sends for every key before it waits for any; a refusal does not keep the others from being sent."""
    sent, codes, collection = [], [0], app.client.collection(kind.plural)
    for key in keys:
        try:
            job = send(collection, values.resolve(app, kind.noun, key))
            sent.append(Sent(f"{kind.noun} {key}", PAST.get(verb, f"{verb}: done"), job))
        except ClientError as exc:
            codes.append(report(exc, app, kind.noun))
    return max(*codes, outcome.conclude(app, kind, sent, waiting))
