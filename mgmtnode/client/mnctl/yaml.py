"""JSON values as YAML: block style, and every string that YAML could read as something else in quotes."""

from __future__ import annotations

import re
from typing import Any

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./ -]*(?<! )")
WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def dump(value: Any) -> str:
    """A YAML document with a final newline; readable by YAML 1.1 and 1.2 parsers alike."""
    return "\n".join(_block(value, "")) + "\n"


def _block(value: Any, indent: str) -> list[str]:
    if isinstance(value, dict) and value:
        return [
            line
            for key, item in value.items()
            for line in _entry(f"{indent}{_scalar(str(key))}:", item, indent)
        ]
    if isinstance(value, list | tuple) and value:
        return [line for item in value for line in _item(item, indent)]
    return [indent + _scalar(value)]


def _entry(head: str, value: Any, indent: str) -> list[str]:
    if _nested(value):
        return [head, *_block(value, indent + "  ")]
    return [f"{head} {_scalar(value)}"]


def _item(value: Any, indent: str) -> list[str]:
    if not _nested(value):
        return [f"{indent}- {_scalar(value)}"]
    first, *rest = _block(value, indent + "  ")
    return [f"{indent}- {first.lstrip(' ')}", *rest]


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list | tuple) and bool(value)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    return _string(value) if isinstance(value, str) else str(value)


def _float(value: float) -> str:
    text = repr(value)
    if value != value or text in ("inf", "-inf"):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}[text]
    # YAML 1.1 takes a number for a float only if it has a point.
    return text if "." in text else text.replace("e", ".0e")


def _string(value: str) -> str:
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return '"' + "".join(_character(c) for c in value) + '"'


def _character(c: str) -> str:
    if c in ESCAPES:
        return ESCAPES[c]
    if c == " " or (c.isprintable() and c != "\ufeff"):
        return c
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
