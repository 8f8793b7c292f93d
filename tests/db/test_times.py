"""Moments on SQLite: texts whose order is the order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from mgmtnode.db.base import UtcTime

MOMENTS = st.datetimes(timezones=st.just(UTC))


def stored(moment: datetime) -> str:
    return str(UtcTime().process_bind_param(moment, sqlite.dialect()))


@given(MOMENTS, MOMENTS)
def test_texts_sort_as_the_moments_do_in_every_year(one: datetime, other: datetime) -> None:
    assert (stored(one) < stored(other)) == (one < other)
    assert len(stored(one)) == 27
    assert datetime.fromisoformat(stored(one)) == one


def test_a_moment_is_stored_in_utc() -> None:
    east = timezone(timedelta(hours=9))
    assert stored(datetime(999, 1, 1, 9, tzinfo=east)) == "0999-01-01T00:00:00.000000Z"
