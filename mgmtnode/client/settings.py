"""Where the management plane is, and the token that opens it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Settings:
    """``ca_file`` replaces the system's certificate authorities."""

    urls: tuple[str, ...] = (DEFAULT_URL,)
    token: str | None = None
    ca_file: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """MGMTNODE_URL (several with commas), MGMTNODE_TOKEN or MGMTNODE_TOKEN_FILE, MGMTNODE_CA_FILE."""
        return cls(
            urls=split_urls(env.get("MGMTNODE_URL", "")) or (DEFAULT_URL,),
            token=env.get("MGMTNODE_TOKEN") or read_token(env.get("MGMTNODE_TOKEN_FILE")),
            ca_file=env.get("MGMTNODE_CA_FILE") or None,
        )


def split_urls(text: str) -> tuple[str, ...]:
    """Base URLs without their trailing slash; raises ValueError for what is not http or https."""
    urls = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL such as {DEFAULT_URL}")
    return urls


def read_token(path: str | os.PathLike[str] | None) -> str | None:
    """The token in a file, or None without a path; a file that cannot be read raises OSError."""
    return Path(path).read_text(encoding="utf-8").strip() or None if path else None


def is_local(urls: tuple[str, ...]) -> bool:
    """Whether all of ``urls`` are on this machine."""
    return all(urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1") for url in urls)
