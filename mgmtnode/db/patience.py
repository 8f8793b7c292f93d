"""Waiting for a database that is away: work that was accepted pauses, it does not fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mgmtnode.errors import DATABASE_DOWN, ApiError

log = logging.getLogger(__name__)
T = TypeVar("T")
PAUSE = 0.5  # seconds between attempts at a database or host that does not answer
LONGEST_PAUSE = 5.0


async def outlast(attempt: Callable[[], Awaitable[T]]) -> T:
    """The outcome of ``attempt``, made again as long as the database is away: it must bear that an earlier attempt
    was committed though nobody heard of it. Ends by cancellation, or when the database is back."""
    pause = PAUSE
    while True:
        try:
            return await attempt()
        except ApiError as error:
            if error.code != DATABASE_DOWN.id:
                raise
            log.warning("waiting for the database: %s", error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
