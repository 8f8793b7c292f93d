"""A virtual environment for each peer, kept in a cache directory and made anew when its requirements change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

INSTALL_SECONDS = 900
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "nameko": ("nameko>=3.0.0rc11", "setuptools<81"),  # it imports pkg_resources
    "oslo": ("oslo.messaging>=14",),
    "celery": ("celery>=5.4", "gevent>=24"),
    "faststream": ("faststream[rabbit]>=0.6", "uvloop>=0.19"),
    "kombu": ("kombu>=5.3",),
    "aio_pika": ("aio-pika>=9.4", "uvloop>=0.19"),
    "dbos": ("dbos>=2", "uvloop>=0.19", "uvicorn>=0.30", "httptools>=0.6"),
}


class NotInstalled(Exception):
    """pip could not install it. The text is what pip said last."""


def python_of(peer: str) -> Path:
    """The interpreter that has a peer; installs it if that was not yet done. Raises NotInstalled."""
    wanted = REQUIREMENTS[peer]
    mark = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    directory = cache() / f"{peer}-{mark}"
    if not (directory / "installed").exists():
        _install(peer, directory, wanted)
    return directory / "bin" / "python"


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mgmtnode" / "bench"


def _install(peer: str, directory: Path, wanted: tuple[str, ...]) -> None:
    print(f"… installing {peer} into {directory}", file=sys.stderr, flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(directory)])
    pip = [
        str(directory / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
    ]
    _run([*pip, *wanted])
    (directory / "installed").touch()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"it took more than {INSTALL_SECONDS} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalled(lines[-1] if lines else f"pip ended with {done.returncode}")
