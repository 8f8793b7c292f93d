"""What several commands need: the configuration file's option, and the properties and services it leads
to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mgmtnode.config.file import Properties
    from mgmtnode.service import ServiceManifest

F = TypeVar("F", bound=Callable[..., Any])
USUAL_PLACE = Path("/etc/mgmtnode/mgmtnode.toml")

config_option: Callable[[F], F] = click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="MGMTNODE_CONFIG",
    help=f"Configuration file (MGMTNODE_CONFIG). Default: {USUAL_PLACE}, if there is one.",
)


def read_properties(config_file: Path | None) -> Properties:
    """The core's properties from file and environment; the services' are still to be declared."""
    from mgmtnode.config.file import Properties

    if config_file is None and USUAL_PLACE.exists():
        config_file = USUAL_PLACE
    return Properties.load(config_file, os.environ)


def read_all(config_file: Path | None) -> tuple[Properties, list[ServiceManifest]]:
    """All properties, checked, and the services that they enable. Raises ConfigFileError and LoadError."""
    from mgmtnode.config.core_properties import SERVICES_ENABLED
    from mgmtnode.loader import discover

    properties = read_properties(config_file)
    manifests = discover(properties.get(SERVICES_ENABLED))
    for manifest in manifests:
        properties.declare(manifest.id, manifest.properties)
    properties.close()
    return properties, manifests
