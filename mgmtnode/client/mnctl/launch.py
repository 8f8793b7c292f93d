"""``mnctl vm launch NAME``: a running virtual machine with as few words as possible."""

from __future__ import annotations

from typing import Any

import click

from mgmtnode.client.errors import ProblemError
from mgmtnode.client.mnctl import naming, outcome, render, values
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.kinds import VM
from mgmtnode.client.mnctl.outcome import Sent, Waiting
from mgmtnode.client.mnctl.problems import STILL_RUNNING, report
from mgmtnode.client.records import Record

PREFERRED = "small"
CPU, MEMORY = 1, 1 << 30


def command() -> click.Command:
    fields = (values.option(field) for field in VM.fields if field.name != "start")
    params = [click.Argument(["name"]), *fields, values.setter(), *outcome.options()]
    return Leaf(
        "launch", callback=run, params=params,
        help="Create and start one; default: offering small or the smallest, the first network.",
    )  # fmt: skip


@pass_app
def run(
    app: App,
    /,
    name: str,
    assignments: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    dry_run: bool,
    **given: Any,
) -> int:
    body = {"name": name, **values.body(app, VM.fields, given, assignments)}
    if "cpu" not in body and "memory" not in body:
        body.setdefault("instance_offering_uuid", _offering(app))
    body.setdefault("l3_network_uuids", _networks(app))
    job = app.client.vms.create(
        {k: v for k, v in body.items() if v is not None} | _size(body), dry_run=dry_run
    )
    sent = Sent(f"vm {name}", "created", job)
    if dry_run or not wait or app.output in ("json", "yaml"):
        return outcome.conclude(app, VM, [sent], Waiting(wait, timeout, dry_run))
    return _introduce(app, name, sent, timeout)


def _introduce(app: App, /, name: str, sent: Sent, timeout: float | None) -> int:
    try:
        vm = outcome.follow(sent, timeout)
    except KeyboardInterrupt:
        outcome.detach(app, [sent])
        return STILL_RUNNING
    except ProblemError as exc:
        return report(exc, app, "vm", sent.job.uuid)
    addresses = render.cell("ip", naming.pick(vm, "nics.ip"))
    click.echo(
        f"{name} is {vm.get('state')}" + (f" at {addresses}" if addresses != "-" else ", without a network")
    )
    app.note(f"next: mnctl vm show {name}")
    return 0


def _size(body: dict[str, Any]) -> dict[str, Any]:
    """Without any offering: one CPU and 1 GiB, as far as nothing else was said."""
    if body.get("instance_offering_uuid"):
        return {}
    return {"cpu": body.get("cpu", CPU), "memory": body.get("memory", MEMORY)}


def _offering(app: App) -> str | None:
    """The offering called small, else the one with the least memory; None if there is none."""
    offerings = app.client.instance_offerings
    found = [*offerings.list(f"name={PREFERRED}", limit=1)] or [*offerings.list(sort="memory", limit=1)]
    return str(found[0]["uuid"]) if found else None


def _networks(app: App) -> list[str]:
    first: list[Record] = list(app.client.l3_networks.list(sort="created_at", limit=1))
    return [str(item["uuid"]) for item in first]
