"""The event log: gap-free and ordered per resource, readable from any point on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from mgmtnode.bus.message import Event
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.events import repository
from mgmtnode.events.repository import LoggedEvent, Position
from mgmtnode.jobs.job import Caller

DIGITS = 19  # of the highest number that a database counts to
BAD_EVENT_ID = ErrorCode("events.bad-id", Category.INVALID, "the event id is not one this log gave out")


class EventLog:
    """Writes events in the transaction they belong to, and wakes who reads on."""

    def __init__(self, db: Database, publish: Callable[[Event], None]) -> None:
        self._db, self._publish = db, publish
        self._changed = asyncio.Event()

    def record(self, tx: Tx, event: Event) -> None:
        """Raises the resource's revision and logs the event; published once committed."""
        repository.append(tx, event)
        tx.after_commit(lambda: self._told(event))

    def wake(self) -> None:
        """Something was logged, here or by another node."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, timeout: float) -> None:
        """Returns when something new may be there, or after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return

    async def read(self, after: str | None, limit: int, caller: Caller) -> list[LoggedEvent]:
        """Up to ``limit`` events after the position ``after`` (None: from the oldest kept) that the caller may see."""
        position = _position(after)
        return await self._db.read(lambda tx: repository.read(tx, position, limit, caller))

    async def head(self) -> str:
        """The newest position: what to pass to read only what comes from now on."""
        return await self._db.read(repository.newest)

    async def oldest(self) -> str | None:
        """The oldest position kept, None when the log is empty."""
        return await self._db.read(repository.oldest)

    async def forget(self, before: datetime) -> None:
        """Deletes what is older than ``before``."""
        while await self._db.write(lambda tx: repository.forget(tx, before, 1000)):
            pass

    def _told(self, event: Event) -> None:
        self.wake()
        self._publish(event)


def _position(text: str | None) -> Position | None:
    if not text:
        return None
    xid, dash, seq = text.partition("-")
    if dash and all(n.isascii() and n.isdigit() and len(n) <= DIGITS for n in (xid, seq)):
        position = int(xid), int(seq)
        if max(position) < 1 << 63:
            return position
    raise BAD_EVENT_ID.error(f"{text[:40]!r} is not an event id")
