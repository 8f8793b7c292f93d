"""Waiting at boot for a database that is not there yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mgmtnode.db.schema import told
from mgmtnode.db.session import SqlDatabase
from mgmtnode.errors import UNAVAILABLE, ApiError, Category
from mgmtnode.ports import Clock

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between attempts


async def until_there(
    attempt: Callable[[], Awaitable[object]], db: SqlDatabase, clock: Clock, *, seconds: float
) -> None:
    """Makes ``attempt`` again for so long as it says that the database is away; 0: only once. Raises what else it
    raises, and core.unavailable when the time is over."""
    until, told_of = clock.monotonic() + seconds, ""
    while True:
        try:
            with told(db):
                await attempt()
            return
        except ApiError as error:
            if error.category is not Category.UNAVAILABLE or not seconds:
                raise
            why = error.problem.message
        left = until - clock.monotonic()
        if left <= PAUSE:
            raise UNAVAILABLE.error(f"the database was away for {seconds:g} s: {why}")
        if why != told_of:
            log.warning("waiting for the database, for up to %.0f s: %s", left, why)
            told_of = why
        await asyncio.sleep(PAUSE)
