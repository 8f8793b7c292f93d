"""The pages of global configs, global properties and system tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mgmtnode.config.core_properties import CORE_PROPERTIES
from mgmtnode.config.example import example, limits
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.config.properties import TYPE_WORDS, GlobalProperty
from mgmtnode.jobs.jobs import JOB_CONFIGS
from scripts.reference.installation import Installation
from scripts.reference.words import HEAD, code, listed, table

CONFIGS = """\
# Global configs

Settings of the whole cloud. An operator changes them while it runs; every node follows at once. [How to
configure](../how-to/configure.md#global-configs) shows the commands. Those with types under *override*
can have another value on a single resource of such a type; the nearest one holds.

"""
PROPERTIES = """\
# Global properties

Settings of one node, read once when it starts, from [`mgmtnode.toml`](mgmtnode.toml) or from the
environment, which wins. A secret is never shown, and may be read from a file: `KEY_file` in the file,
or the variable with `_FILE` at its end. [How to
configure](../how-to/configure.md#the-configuration-file) shows the commands.

"""
TAGS = """\
# System tags

Text on a resource that a service gives a meaning to. Words in braces are values. *inherent*: only the
service sets it; *operator*: only accounts of the operator do. A tag is given at creation
(`"system_tags": ["…"]`) or later (`POST /v1/resources/{uuid}/system-tags`).

"""

TITLES = ("name", "default", "values", "meaning", "override", "service")


def global_configs(here: Installation) -> str:
    found: dict[str, list[tuple[str, GlobalConfig[Any]]]] = {}
    for owner, config in _configs(here):
        found.setdefault(config.category, []).append((owner, config))
    parts = [HEAD, CONFIGS]
    for category, configs in sorted(found.items()):
        rows = [_config(owner, config) for owner, config in sorted(configs, key=lambda pair: pair[1].name)]
        parts += [
            f"## {category}\n\n",
            table(("name", "default", "values", "meaning", "override", "service"), rows),
        ]
    return "".join(parts).rstrip() + "\n"


def _configs(here: Installation) -> Iterator[tuple[str, GlobalConfig[Any]]]:
    yield from (("the node", config) for config in JOB_CONFIGS)
    for manifest in here.manifests:
        yield from ((manifest.id, config) for config in manifest.config)


def _config(owner: str, config: GlobalConfig[Any]) -> tuple[str, ...]:
    values = TYPE_WORDS[type(config.default)]
    if config.choices:
        values = f"one of {listed(config.choices)}"
    if config.pattern:
        values += f" like {code(config.pattern)}"
    bounds = _bounds(config)
    default = config.text(config.default) + (f" {config.unit}" if config.unit else "")
    return code(config.name), default, values + bounds, config.description, listed(config.overridable), owner


def _bounds(config: GlobalConfig[Any]) -> str:
    low, high = (None if n is None else f"{n:,.10g}".replace(",", " ") for n in (config.low, config.high))
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None:
        return f", at least {low}"
    return "" if high is None else f", at most {high}"


def global_properties(here: Installation) -> str:
    sections: dict[str, list[GlobalProperty[Any]]] = {}
    for prop in _properties(here):
        sections.setdefault(prop.section, []).append(prop)
    parts = [HEAD, PROPERTIES]
    for name, properties in sections.items():
        rows = [_property(prop) for prop in properties]
        parts += [f"## {name}\n\n", table(("name", "variable", "default", "values", "meaning"), rows)]
    return "".join(parts).rstrip() + "\n"


def _property(prop: GlobalProperty[Any]) -> tuple[str, ...]:
    values = limits(prop) + (" (secret)" if prop.secret else "")
    return code(prop.name), code(prop.env), _default(prop), values, prop.description


def _properties(here: Installation) -> Iterable[GlobalProperty[Any]]:
    return [*CORE_PROPERTIES, *(prop for manifest in here.manifests for prop in manifest.properties)]


def _default(prop: GlobalProperty[Any]) -> str:
    return "empty" if prop.default in ("", []) else code(str(prop.default))


def example_file(here: Installation) -> str:
    return example(_properties(here))


def system_tags(here: Installation) -> str:
    rows = [
        (code(tag.format), tag.on, manifest.id, listed(_who(tag)), tag.description)
        for manifest in here.manifests
        for tag in manifest.tags
    ]
    return (HEAD + TAGS + table(("tag", "on", "service", "", "meaning"), sorted(rows))).rstrip() + "\n"


def _who(tag: Any) -> Iterator[str]:
    if tag.inherent:
        yield "inherent"
    if tag.admin:
        yield "operator"
    if not tag.unique:
        yield "several"
