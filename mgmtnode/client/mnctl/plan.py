"""What a dry run found, for people: where it would happen, with which addresses, in which steps."""

from __future__ import annotations

from typing import Any

import click

from mgmtnode.client.mnctl import naming, render
from mgmtnode.client.mnctl.app import App

PLACES = (
    ("zone", "zone_uuid"),
    ("cluster", "cluster_uuid"),
    ("host", "host_uuid"),
    ("moves to", "peer_uuid"),
)
SHOWN = 10
NAMED = ("host_uuid", "peer_uuid", "cluster_uuid", "zone_uuid", "spec.nics.l3_network_uuid")


def show(app: App, label: str, plan: Any) -> None:
    """JSON and YAML have all that the server decided; the table what a reader decides by."""
    if app.output in ("json", "yaml") or not isinstance(plan, dict) or "steps" not in plan:
        return render.whole(app, plan)
    click.echo(f"{label}: plan of {plan.get('api')}; nothing was changed")
    rows = [*_facts(app, plan.get("context")), *_steps(plan["steps"]), *_below(plan)]
    width = max((len(head) for head, _ in rows), default=0)
    for head, text in rows:
        click.echo(f"  {head.ljust(width)}  {render.plain(text)}".rstrip())
    return None


def _facts(app: App, context: Any) -> list[tuple[str, str]]:
    if not isinstance(context, dict):
        return []
    names = naming.lookup(app, NAMED, [context])
    found: list[tuple[str, str]] = []
    for head, column in PLACES:
        uuid = context.get(column)
        if isinstance(uuid, str):
            found.append((head, names.get(uuid, uuid)))
    return [*found, *_machine(context.get("spec"), names)]


def _machine(spec: Any, names: dict[str, str]) -> list[tuple[str, str]]:
    if not isinstance(spec, dict) or not spec.get("cpu"):
        return []
    found: list[tuple[str, str]] = [("size", f"{spec['cpu']} CPU, {render.size(spec.get('memory') or 0)}")]
    for nic in spec.get("nics") or []:
        network = str(nic.get("l3_network_uuid"))
        found.append(("address", f"{nic.get('ip') or 'none'} on {names.get(network, network)}"))
    return found


def _below(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """The resources that a deletion takes along or changes, by what happens to them."""
    below = plan.get("below") or []
    by_api: dict[str, list[str]] = {}
    for child in below:
        by_api.setdefault(str(child["api"]), []).append(str(child["name"] or child["resource_uuid"]))
    rows = [
        (api, f"{len(names)}: {', '.join(names[:SHOWN])}{' …' * (len(names) > SHOWN)}")
        for api, names in by_api.items()
    ]
    more = plan.get("below_total", 0) - len(below)
    return [*rows, ("and", f"{more} more")] if more > 0 else rows


def _steps(steps: list[Any]) -> list[tuple[str, str]]:
    return [("steps" if number == 1 else "", f"{number}. {step}") for number, step in enumerate(steps, 1)]
