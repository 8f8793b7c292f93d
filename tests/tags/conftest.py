"""A database with one resource to tag."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mgmtnode.db import resource
from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase
from mgmtnode.ports import SystemClock
from mgmtnode.schema import Inventory, Resource

BOX = Resource("box", "boxes", Inventory)
BOX_UUIDS = tuple(f"00000000-0000-7000-9000-00000000000{n}" for n in range(1, 4))
ACCOUNT = "00000000-0000-7000-8000-00000000000a"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqlDatabase]:
    database = open_database(f"sqlite:///{tmp_path}/test.db", SystemClock())
    metadata.create_all(database.engine)
    for uuid in BOX_UUIDS:
        database.run(lambda tx, uuid=uuid: resource.create(tx, BOX, uuid, "a box", account=ACCOUNT))
    yield database
    database.engine.dispose()


@pytest.fixture
def boxes() -> tuple[str, ...]:
    return BOX_UUIDS
