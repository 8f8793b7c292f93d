"""Waiting for a database that is away: work that was accepted pauses, it does not fail."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mgmtnode.errors import DATABASE_DOWN, DATABASE_SLOW, ApiError

log = logging.getLogger(__name__)
T = TypeVar("T")
WAITED_FOR = (DATABASE_DOWN.id, DATABASE_SLOW.id)
PAUSE = 0.5  # seconds between attempts at a database or host that does not answer
LONGEST_PAUSE = 5.0
SLOW_ATTEMPTS = 10  # of what takes too long: it may be overload, or a statement that never will be quick
EVER = math.inf  # of what nobody can give up: a way back that has begun


async def outlast(attempt: Callable[[], Awaitable[T]], slow_attempts: float = SLOW_ATTEMPTS) -> T:
    """The outcome of ``attempt``, made again as long as the database is away, and so many times when it is too slow: it
    must bear that an earlier attempt was committed though nobody heard of it. Ends by cancellation, or when the
    database is back."""
    pause, slow = PAUSE, 0
    while True:
        try:
            return await attempt()
        except ApiError as error:
            slow += error.code == DATABASE_SLOW.id
            if error.code not in WAITED_FOR or slow >= slow_attempts:
                raise
            log.warning("waiting for the database: %s", error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
