"""Renders a complete ``mgmtnode.toml`` from the declared properties: the reference, and a file to start
from."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import Any

from mgmtnode.config.properties import TYPE_WORDS, GlobalProperty

HEAD = """\
# Configuration of one management node. Every line shows a default: uncomment what you change.
# Each value can be overridden by the variable of the environment named above it. Values marked (secret)
# may be read from a file instead: write <key>_file = "/path", or set the variable with _FILE at its end.
"""
WIDTH = 108


def example(properties: Iterable[GlobalProperty[Any]]) -> str:
    """A commented file with all ``properties`` at their defaults, section by section."""
    sections: dict[str, list[GlobalProperty[Any]]] = {}
    for prop in properties:
        sections.setdefault(prop.section, []).append(prop)
    return HEAD + "".join(_section(name, declared) for name, declared in sections.items())


def toml_value(value: object) -> str:
    """``value`` as TOML writes it (for the types a property may have, TOML and JSON agree)."""
    return json.dumps(value, ensure_ascii=False)


def limits(prop: GlobalProperty[Any]) -> str:
    """What values are accepted, for people: ``an integer, 2 to 200, in seconds``."""
    words = [TYPE_WORDS[type(prop.default)]]
    if prop.choices:
        words = [f"one of {', '.join(prop.choices)}"]
    if prop.low is not None and prop.high is not None:
        words.append(f"{prop.low:g} to {prop.high:g}")
    elif prop.low is not None:
        words.append(f"at least {prop.low:g}")
    elif prop.high is not None:
        words.append(f"at most {prop.high:g}")
    if prop.unit:
        words.append(f"in {prop.unit}")
    return ", ".join(words)


def _section(name: str, properties: list[GlobalProperty[Any]]) -> str:
    return f"\n[{name}]\n" + "".join(_property(p) for p in properties)


def _property(prop: GlobalProperty[Any]) -> str:
    accepted = limits(prop)
    said = f"{prop.description.rstrip('.')}. {accepted[0].upper()}{accepted[1:]}. {prop.env}"
    said += " (secret)" if prop.secret else ""
    comment = textwrap.fill(said, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
    return f"\n{comment}\n# {prop.key} = {toml_value(prop.default)}\n"
