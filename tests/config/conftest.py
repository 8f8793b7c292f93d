"""A database with tables of a foreign service, and a transaction hook that keeps what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from mgmtnode.bus.message import Event
from mgmtnode.db import resource
from mgmtnode.db.base import metadata, ref, resource_table
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.ports import SystemClock
from mgmtnode.schema import Inventory, Resource

ACCOUNT = "00000000-0000-7000-8000-00000000000a"


class Recorder:
    """Stands for the node's event log."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def call_in_tx(self, tx: Tx, msg: Any) -> Any:
        raise AssertionError("nothing is called here")

    def record(self, tx: Tx, event: Event) -> None:
        self.events.append(event)


class Foreign:
    """Resources of a foreign service: a room with racks, a rack with boxes."""

    def __init__(self) -> None:
        self.room = resource_table("room")
        self.rack = resource_table("rack", ref("room_uuid", "room", back="racks"))
        self.box = resource_table("box", ref("rack_uuid", "rack", back="boxes", nullable=True))
        self._count = 0

    def make(self, tx: Tx, kind: str, **refs: str) -> str:
        self._count += 1
        uuid = f"00000000-0000-7000-9000-{self._count:012d}"
        resource.create(
            tx, Resource(kind, kind + "s", Inventory), uuid, f"{kind}-{self._count}", account=ACCOUNT
        )
        tx.execute(insert(getattr(self, kind)).values(uuid=uuid, **refs))
        return uuid

    def forget(self) -> None:
        for table in (self.box, self.rack, self.room):
            metadata.remove(table)


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    made = Foreign()
    yield made
    made.forget()


@pytest.fixture
def db(tmp_path: Path, foreign: Foreign) -> Iterator[SqlDatabase]:
    database = open_database(f"sqlite:///{tmp_path}/test.db", SystemClock())
    database.hooks = Recorder()
    metadata.create_all(database.engine)
    yield database
    database.engine.dispose()
