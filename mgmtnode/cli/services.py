"""``mgmtnode services``: what is installed, and what each service declares."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mgmtnode.cli.settings import config_option, read_all

if TYPE_CHECKING:
    from types import ModuleType

    from mgmtnode.service import ServiceManifest


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="A JSON list, one object a service.")
def services(config_file: Path | None, as_json: bool) -> None:
    """List the services in the order they start, and what each declares."""
    _, manifests = read_all(config_file)
    described = [describe(manifest) for manifest in manifests]
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    for each in described:
        click.echo(f"{click.style(each['id'], bold=True)}  {each['summary']}")
        for kind, items in each.items():
            if kind not in ("id", "summary") and items:
                click.echo(f"  {kind.replace('_', ' ')}:")
                for item in items:
                    click.echo(f"    {item}")


def describe(manifest: ServiceManifest) -> dict[str, Any]:
    """What a manifest declares, as lists of lines."""
    from mgmtnode.errors import ErrorCode
    from mgmtnode.loader import events, messages, values
    from mgmtnode.schema import Resource

    modules = manifest.contract
    resources = [r for m in modules for r in values(m, Resource)]
    codes = [e for m in modules for e in values(m, ErrorCode)]
    return {
        "id": manifest.id,
        "summary": manifest.summary,
        "requires": list(manifest.requires),
        "resources": [f"{r.type}  /v1/{r.plural}" for r in resources],
        "messages": [_message(message) for m in modules for message in messages(m)],
        "events": [e.name for m in modules for e in events(m)],
        "extension_points": [line for m in modules for line in _points(m)],
        "implements": [_implements(e) for e in manifest.extensions],
        "global_configs": [f"{c.name} = {c.text(c.default)}  {c.description}" for c in manifest.config],
        "global_properties": [f"{p.name}  {p.description}" for p in manifest.properties],
        "system_tags": [f"{t.format} on {t.on}  {t.description}" for t in manifest.tags],
        "tables": [t.name for t in manifest.tables],
        "error_codes": [f"{e.id}  {e.summary}" for e in sorted(codes, key=lambda e: e.id)],
    }


def _message(message: Any) -> str:
    api = getattr(message, "api", None)
    if api is None:
        return str(message.__name__)
    if getattr(message, "internal", False):
        return f"{message.__name__}  {api.name}  (a job between services)"
    return f"{message.__name__}  {api.name}  {api.verb} /v1{api.path}" + ("  (operator)" if api.admin else "")


def _points(module: ModuleType) -> list[str]:
    return [
        f"{cls.__name__} ({kind})"
        for cls in vars(module).values()
        if inspect.isclass(cls) and cls.__module__ == module.__name__
        if (kind := vars(cls).get("__extension__"))
    ]


def _implements(extension: Any) -> str:
    return f"{extension.point.__name__}" + (
        f" as {extension.key}" if extension.key else f", order {extension.order}"
    )
