"""A dry run beside the job that it rehearses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from mgmtnode.testing.cloud import Cloud, NodeThread, operator_token

pytestmark = pytest.mark.integration

WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
def cloud(upgraded_postgres_url: str, tmp_path: Path) -> Iterator[Cloud]:
    """A node on PostgreSQL: SQLite has one writer at a time, a dry run included."""
    thread = NodeThread(
        tmp_path / "node", database_url=upgraded_postgres_url, services=("identity", "config", "zone")
    )
    thread.start()
    cloud = Cloud(thread, operator_token(thread))
    try:
        yield cloud
    finally:
        cloud.close()
        thread.stop()


def someone_waits(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(WAITING).scalar())


def test_the_dry_run_of_a_deletion_that_is_being_done_finds_nothing_there(cloud: Cloud) -> None:
    zone: dict[str, Any] = cloud.create("zones", name="west")
    engine = cloud.node.db.engine
    with ThreadPoolExecutor(1) as pool:
        with engine.connect() as other, other.begin():
            other.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            for table in ("zone", "resource"):
                other.execute(text(f"DELETE FROM {table} WHERE uuid = :uuid"), {"uuid": zone["uuid"]})
            answer = pool.submit(cloud.request, "DELETE", f"/zones/{zone['uuid']}", dry_run="true")
            cloud.until(lambda: someone_waits(engine))
        assert (answer.result().status_code, answer.result().json()["code"]) == (404, "core.not-found")
