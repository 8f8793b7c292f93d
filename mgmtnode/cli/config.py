"""``mgmtnode config``: an example file, the values in force, and whether the file is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mgmtnode.cli.settings import config_option, read_all


@click.group()
def config() -> None:
    """Print, show or check the configuration of a node."""


@config.command()
def example() -> None:
    """Print a complete configuration file with all defaults and what each setting means."""
    from mgmtnode.config.core_properties import CORE_PROPERTIES
    from mgmtnode.config.example import example as render
    from mgmtnode.loader import discover

    services = [prop for manifest in discover() for prop in manifest.properties]
    click.echo(render([*CORE_PROPERTIES, *services]), nl=False)


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(config_file: Path | None, as_json: bool) -> None:
    """Show every value in force and where it comes from. Secrets are not shown."""
    properties, _ = read_all(config_file)
    rows = {p.name: (properties.shown(p), properties.source(p)) for p in properties.declared}
    if as_json:
        click.echo(json.dumps({name: {"value": v, "source": s} for name, (v, s) in rows.items()}, indent=2))
        return
    width = max(map(len, rows))
    for name, (value, source) in rows.items():
        click.echo(f"{name:<{width}}  {_text(value)}  ({source})")


@config.command()
@config_option
def check(config_file: Path | None) -> None:
    """Check the file and the environment; exits with 78 and says where the first fault is."""
    properties, manifests = read_all(config_file)
    given = sum(properties.source(p) != "default" for p in properties.declared)
    total = len(properties.declared)
    click.echo(f"{properties.file}: right; {given} of {total} settings given, {len(manifests)} services")


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
