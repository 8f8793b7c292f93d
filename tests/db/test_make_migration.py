"""scripts/make-migration writes revisions that leave what the models declare, and its check sees when they do not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAST = 'Column("state", String(16), nullable=False)'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("mgmtnode", "services", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def make(tree: Path, *words: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONHASHSEED": seed}
    command = [sys.executable, "scripts/make_migration.py", *words]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60)


def change(tree: Path, column: str) -> None:
    models = tree / "services/zone/models.py"
    text = models.read_text()
    assert LAST in text
    models.write_text(text.replace(LAST, f"{LAST}, {column}"))


def test_the_revisions_of_this_tree_are_what_its_models_declare() -> None:
    done = make(ROOT, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_rewriting_the_initial_revisions_changes_nothing(tree: Path) -> None:
    files = sorted(tree.rglob("migrations/versions/0001_*.py"))
    before = [file.read_text() for file in files]
    done = make(tree, "--initial", "all", seed="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [file.read_text() for file in files] == before


def test_a_changed_model_is_noticed_and_a_revision_for_it_made(tree: Path) -> None:
    change(tree, 'Column("colour", String(16), index=True)')
    done = make(tree, "--check")
    assert done.returncode == 1
    assert "a model declares, and no revision makes: column zone.colour" in done.stdout
    made = make(tree, "zone", "Colours for zones")
    assert made.returncode == 0, made.stdout + made.stderr
    text = (tree / "services/zone/migrations/versions/0002_colours_for_zones.py").read_text()
    assert 'batch_op.add_column(sa.Column("colour", words(16)))' in text
    assert 'down_revision = "zone_0001"' in text
    done = make(tree, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "have all that the models declare" in make(tree, "zone", "again").stdout


def test_a_service_without_revisions_gets_its_first(tree: Path) -> None:
    shutil.rmtree(tree / "services/zone/migrations")
    assert "has no revisions" in make(tree, "--check").stdout
    assert make(tree, "--initial", "zone").returncode == 0
    assert make(tree, "--check").returncode == 0
