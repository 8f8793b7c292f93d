"""The connection of what must not wait behind other work."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from mgmtnode.db.engine import open_database
from mgmtnode.db.own_connection import OwnConnection
from mgmtnode.errors import ApiError
from mgmtnode.ports import SystemClock

PID = text("select pg_backend_pid()")


def test_it_does_not_wait_for_those_of_the_pool(postgres_url: str) -> None:
    """Found by chaos: a heart that had to connect anew while all others were in use stopped beating for good."""
    db = open_database(postgres_url, SystemClock(), connections=2)
    own = OwnConnection(db, {"statement_timeout": "3s"})
    held = [db.engine.connect() for _ in range(3)]
    first = own.execute(PID).scalar_one()
    own.close()
    assert own.execute(PID).scalar_one() != first
    own.close()
    for connection in held:
        connection.close()
    db.engine.dispose()


def test_a_connection_that_is_lost_is_told_and_made_anew(postgres_url: str) -> None:
    db = open_database(postgres_url, SystemClock())
    own = OwnConnection(db, {"application_name": "heart"})
    first = own.execute(PID).scalar_one()
    with pytest.raises(ApiError) as lost:
        own.execute(text("select pg_terminate_backend(pg_backend_pid())"))
    assert lost.value.code == "core.database-unavailable"
    assert own.execute(PID).scalar_one() != first
    assert own.execute(text("select current_setting('application_name')")).scalar_one() == "heart"
    own.close()
    db.engine.dispose()
