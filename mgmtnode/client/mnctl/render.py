"""Results on stdout: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import msgspec

from mgmtnode.client.mnctl import naming, yaml
from mgmtnode.client.mnctl.app import App
from mgmtnode.client.mnctl.kinds import Kind

GREEN, RED, YELLOW = "32", "31", "33"
COLOURS = {
    "Running": GREEN, "Enabled": GREEN, "Connected": GREEN, "Succeeded": GREEN, "Active": GREEN,
    "Failed": RED, "Disconnected": RED, "Unknown": RED, "Error": RED, "Faulty": RED,
    "Pending": YELLOW, "RollingBack": YELLOW, "Paused": YELLOW, "Maintenance": YELLOW, "Cancelled": YELLOW,
}  # fmt: skip


def one(app: App, kind: Kind, record: Any) -> None:
    """One resource: its row, or all of it."""
    if app.output == "table" and kind.columns and isinstance(record, dict):
        return many(app, kind.columns, [record])
    return whole(app, record)


def whole(app: App, value: Any) -> None:
    """All of a value; in the table formats as YAML, which people read more easily than JSON."""
    if app.output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
    else:
        click.echo(yaml.dump(value), nl=False)


def many(
    app: App, columns: Sequence[str], records: Iterable[Mapping[str, Any]], *, raw: bool = False
) -> None:
    """A table; resources that rows refer to are shown by their names, unless it is ``raw``."""
    rows = list(records)
    if app.output in ("json", "yaml"):
        return whole(app, rows)
    heads = list(columns) or scalars(rows)
    names = {} if raw else naming.lookup(app, heads, rows)
    lines = [[head(path, raw) for path in heads]]
    lines += [[cell(path, named(naming.pick(row, path), names)) for path in heads] for row in rows]
    return _align(lines)


def head(path: str, raw: bool = False) -> str:
    """``nics.ip`` as IP, ``host_uuid`` as HOST; a field the user asked for keeps its name."""
    if raw:
        return path.upper()
    word = path.rpartition(".")[2]
    return (word.removesuffix("s").removesuffix("_uuid") if "_uuid" in word else word).upper()


def named(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [named(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def columns(app: App, kind: Kind) -> tuple[str, ...]:
    return kind.columns + kind.wide if app.output == "wide" else kind.columns


def scalars(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns for a kind nobody described: the simple fields of its first row, the name first and the uuid
    last.
    """
    first = rows[0] if rows else {}
    names = [name for name, value in first.items() if not isinstance(value, dict | list) and name != "uuid"]
    names.sort(key=lambda name: name != "name")
    return names[:6] + (["uuid"] if "uuid" in first or not names else [])


def cell(path: str, value: Any) -> str:
    if value in (None, [], ""):
        return "-"
    if path.endswith("memory") and isinstance(value, int):
        return size(value)
    if isinstance(value, list):
        return ",".join(cell(path, item) for item in value)
    if isinstance(value, bool | dict):
        return msgspec.json.encode(value).decode()
    return plain(str(value))


def plain(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def size(count: int) -> str:
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if count >= 1 << power:
            return f"{count / (1 << power):.4g} {unit}"
    return f"{count} B"


def colourful(stream: Any) -> bool:
    """See no-color.org."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, word: str, on: bool) -> str:
    colour = COLOURS.get(word)
    return f"\x1b[{colour}m{text}\x1b[0m" if on and colour else text


def _align(lines: list[list[str]]) -> None:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    on = colourful(sys.stdout)
    for line in lines:
        padded = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        padded[-1:] = [line[-1]] if line else []
        click.echo("  ".join(paint(text, word, on) for text, word in zip(padded, line, strict=True)).rstrip())
