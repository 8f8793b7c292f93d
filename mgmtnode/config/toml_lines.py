"""Finds the line of a key in a TOML text, for error messages; the parser itself does not tell."""

from __future__ import annotations

import re

_TABLE = re.compile(r"\s*\[\s*(?P<name>[^\[\]]+?)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"""\s*(?P<name>[\w."'-]+(\s*\.\s*[\w"'-]+)*)\s*=""")


def line_of(text: str, section: str, key: str = "") -> int:
    """The number of the line with ``section.key`` (or with the section itself), 0 if it is not found."""
    wanted = f"{section}.{key}" if key else section
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = _plain(header["name"])
            name = table
        elif assignment := _KEY.match(line):
            name = ".".join(filter(None, (table, _plain(assignment["name"]))))
        else:
            continue
        if name == wanted or (not key and name.startswith(f"{section}.")):
            return number
    return 0


def _plain(name: str) -> str:
    return re.sub(r"[\s\"']", "", name)
