"""Packages of the npm registry for tests: clients in another language, schemas that others publish.

They are installed once, into the checkout's virtual environment, and found there afterwards without network.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".venv" / "npm"
SECONDS = 120


def package(name: str, version: str) -> Path:
    """The directory of an installed package. Skips the test, or in CI fails it, when it cannot be had."""
    directory = HOME / "node_modules" / name
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not directory.exists():
            _install(name, version)
    return directory


def _install(name: str, version: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        _missing("npm is not installed")
    words = [
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(HOME),
        f"{name}@{version}",
    ]
    done = subprocess.run([str(npm), *words], capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        _missing(f"npm could not install {name}: {done.stderr.strip()[-500:]}")


def _missing(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)
