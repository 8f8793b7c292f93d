"""What ``mnctl login`` remembers: named contexts in one file that only its owner can read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class Context(msgspec.Struct, kw_only=True):
    """One management plane and a session there."""

    url: str
    token: str
    account: str = ""
    session_uuid: str | None = None
    ca_file: str | None = None


class Store(msgspec.Struct, kw_only=True):
    current: str | None = None
    contexts: dict[str, Context] = {}

    @property
    def context(self) -> Context | None:
        return self.contexts.get(self.current) if self.current else None


def path(env: Mapping[str, str] = os.environ) -> Path:
    base = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME", "~"), ".config")
    return Path(base).expanduser() / "mgmtnode" / "login.json"


def load() -> Store:
    """Empty if nobody logged in; raises ValueError for a file that is not ours."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=Store)
    except FileNotFoundError:
        return Store()
    except msgspec.DecodeError as exc:
        raise ValueError(f"{path()} cannot be read ({exc}); delete it and run `mnctl login`") from exc


def save(store: Store) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    target = path()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent)  # made with mode 600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(store)))
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def as_dict(context: Context, current: bool, name: str) -> dict[str, Any]:
    """For display: everything but the token."""
    return {"name": name, "current": current, "url": context.url, "account": context.account}
