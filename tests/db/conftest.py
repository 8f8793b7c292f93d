"""Empty databases, and services with revisions of their own, for a test to upgrade."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase
from mgmtnode.loader import discover
from mgmtnode.ports import SystemClock
from mgmtnode.service import Service, ServiceManifest

Plant = Callable[..., ServiceManifest]
REVISION = """
import sqlalchemy as sa
from alembic import op
from mgmtnode.db.base import UuidText

revision = {id!r}
down_revision = {down!r}
branch_labels = {label!r}
depends_on = {depends!r}


def upgrade() -> None:
"""


@pytest.fixture
def databases(
    database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[], SqlDatabase]]:
    """Opens another empty database at each call, all of the kind under test."""
    opened: list[SqlDatabase] = []
    names: list[str] = []

    def another() -> SqlDatabase:
        name = f"test_{uuid.uuid4().hex}"
        if database_url:
            names.append(name)
            url = request.getfixturevalue("postgres_server").create_database(name)
        else:
            url = f"sqlite:///{tmp_path / name}.db"
        opened.append(open_database(url, SystemClock()))
        return opened[-1]

    yield another
    for database in opened:
        asyncio.run(database.close())
    for name in names:
        request.getfixturevalue("postgres_server").drop_database(name)


@pytest.fixture
def db(databases: Callable[[], SqlDatabase]) -> SqlDatabase:
    return databases()


@pytest.fixture
def manifests() -> list[ServiceManifest]:
    """Every installed service."""
    return discover()


def revision(name: str, number: int, body: str, **said: object) -> str:
    """The text of a revision; ``said`` replaces what it should say about its place."""
    first = number == 1
    place = {
        "id": f"{name}_{number:04d}",
        "down": None if first else f"{name}_{number - 1:04d}",
        "label": name if first else None,
        "depends": "core_0001" if first and name != "core" else None,
    }
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return REVISION.format(**(place | said)) + lines


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Makes the distribution of a stranger: a package with revisions, one for each body given."""
    monkeypatch.syspath_prepend(tmp_path / "site")

    def planted(name: str, *bodies: str, **said: object) -> ServiceManifest:
        versions = tmp_path / "site" / name / "migrations" / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name / "__init__.py").touch()
        for number, body in enumerate(bodies, 1):
            (versions / f"{number:04d}_planted.py").write_text(revision(name, number, body, **said))
        return ServiceManifest(id=name, summary="", service=Service, migrations=f"{name}.migrations")

    return planted
