"""Work that was accepted waits for the database."""

from __future__ import annotations

import pytest

from mgmtnode.db.patience import SLOW_ATTEMPTS, outlast
from mgmtnode.errors import CONFLICT, DATABASE_DOWN, DATABASE_SLOW, ApiError, ErrorCode
from tests.virtual_time import run


class Work:
    """Fails of these, one attempt each, and then succeeds."""

    def __init__(self, *failures: ErrorCode) -> None:
        self.failures, self.attempts = list(failures), 0

    async def attempt(self) -> str:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0).error("not now")
        return "done"


@pytest.mark.parametrize("code", [DATABASE_DOWN, DATABASE_SLOW])
def test_a_database_that_is_away_or_slow_for_a_while_fails_nothing(code: ErrorCode) -> None:
    work = Work(*[code] * (SLOW_ATTEMPTS - 1))

    async def story() -> None:
        assert await outlast(work.attempt) == "done"

    run(story)
    assert work.attempts == SLOW_ATTEMPTS


def test_a_database_that_is_away_for_long_fails_nothing_either() -> None:
    work = Work(*[DATABASE_DOWN] * 500)

    async def story() -> None:
        assert await outlast(work.attempt) == "done"

    run(story)


@pytest.mark.parametrize(
    ("failures", "attempts"),
    [([DATABASE_SLOW] * 100, SLOW_ATTEMPTS), ([DATABASE_DOWN, CONFLICT], 2)],
)
def test_what_is_always_too_slow_or_refused_is_not_tried_for_ever(
    failures: list[ErrorCode], attempts: int
) -> None:
    work = Work(*failures)

    async def story() -> None:
        with pytest.raises(ApiError):
            await outlast(work.attempt)

    run(story)
    assert work.attempts == attempts
