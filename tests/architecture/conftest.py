"""A copy of the source tree to plant violations in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Plant = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def source() -> Path:
    return ROOT


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The packages and the settings of this tree, without its tests."""
    for package in ("mgmtnode", "services"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.fixture
def plant(copied: Path) -> Plant:
    """``plant("services/a/x.py", "import y")`` writes a module, and the packages it needs, into the copy."""

    def write(path: str, text: str) -> Path:
        module = copied / path
        module.parent.mkdir(parents=True, exist_ok=True)
        for package in module.relative_to(copied).parents:
            if package.name:
                (copied / package / "__init__.py").touch()
        module.write_text(text + "\n")
        return module

    return write
