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


def make(
    tree: Path, *words: str, seed: str = "0", path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{tree}:{path or tree}", "PYTHONHASHSEED": seed}
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


def test_a_distribution_of_a_stranger_gets_revisions_of_its_own(tmp_path: Path) -> None:
    package, metadata = tmp_path / "acme_storage", tmp_path / "acme_storage-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-storage\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mgmtnode.services]\nacme-storage = acme_storage:manifest\n")
    source = """
from sqlalchemy import Column, String
from mgmtnode.db.base import resource_table
from mgmtnode.service import Service, ServiceManifest
shelf = resource_table("shelf", Column("label", String(16)))
manifest = ServiceManifest(
    id="acme-storage", summary="", service=Service, tables=(shelf,), migrations="acme_storage.migrations"
)
"""
    (package / "__init__.py").write_text(source)
    done = make(ROOT, "acme-storage", "initial", path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (package / "__init__.py").write_text(source.replace('"label"', '"caption"'))
    done = make(ROOT, "acme-storage", "captions", path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(file.name for file in (package / "migrations" / "versions").glob("0*.py"))
    assert files == ["0001_initial.py", "0002_captions.py"]
    program = (
        "import importlib.metadata as m; from mgmtnode.loader import discover\n"
        "from mgmtnode.db import migrate; from mgmtnode.db.schema import upgrade\n"
        "from mgmtnode.db.engine import open_database; from mgmtnode.ports import SystemClock\n"
        f"db = open_database('sqlite:///{tmp_path}/x.db', SystemClock()); found = discover()\n"
        "print(upgrade(db, found)); tables = [t for f in found for t in f.tables]\n"
        "print(migrate.differences(db.engine, tables))\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "acme_storage_0001" in run.stdout
    assert run.stdout.splitlines()[1] == "[]"
