"""One node at a time on a PostgreSQL database: a second one is refused while the first lives, and follows it if it is
dead or stands still.

The lock shows who is there, and that it moves shows that it lives; neither is what keeps two nodes from doing one
job twice. That is the epoch of the slots, which the newcomer raises when it joins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mgmtnode.db.session_lock import Session, SessionLock
from mgmtnode.errors import ApiError

log = logging.getLogger(__name__)
T = TypeVar("T")

LOCK_KEY = 0x6D6E4F4E  # the advisory lock's key: "mnON"
BEAT_SECONDS = 1.0
STILL_SECONDS = 6.0  # a node that has not moved for so long counts as dead
LOOK_SECONDS = 0.25
YOUNG_SECONDS = 10.0  # after its start, the nodes of a database server may not all have come back
RETURN_SECONDS = 4.0  # how long one of them is waited for


class NodeRuns(Exception):
    """Another node lives on the database. The text says which, and what to do."""


class Guard:
    """``lock`` belongs to this guard alone. ``lost`` is set when another node took over from this one."""

    def __init__(self, lock: SessionLock) -> None:
        self._lock = lock
        self._evicted: Callable[[SessionLock], bool] = lambda lock: (
            lock.server_age() < 0
        )  # a statement, to move
        self._thread = ThreadPoolExecutor(1, "guard")
        self._beating: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    async def enter(self) -> None:
        """Returns once this node is the only one. Raises NodeRuns, and ``core.database-unavailable``."""
        await self._enter()
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    def watch(self, evicted: Callable[[SessionLock], bool]) -> None:
        """From now on ``evicted`` asks the database, on the lock's connection, if another node took over."""
        self._evicted = evicted

    async def stop(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        await self._do(self._lock.close)
        self._thread.shutdown(wait=False)

    async def _enter(self) -> None:
        first = await self._do(self._look)
        while not self._lock.held:
            await self._until_still(first)
            first = await self._do(self._look)
        if await self._do(self._lock.server_age) < YOUNG_SECONDS:
            await self._wait_for_return()
        await self._end(await self._do(self._lock.sessions))

    def _look(self) -> list[Session]:
        """The other nodes' connections; the lock is taken if it is free."""
        self._lock.take()
        return self._lock.sessions()

    async def _until_still(self, first: list[Session]) -> None:
        """Watches the holder of the lock, and ends it if it stands still. Raises NodeRuns if it moves."""
        loop = asyncio.get_running_loop()
        until = loop.time() + STILL_SECONDS
        if holder := _holder(first):
            log.info("the node %s holds the database; seeing if it lives", holder.node)
        while loop.time() < until:
            await asyncio.sleep(LOOK_SECONDS)
            now = await self._do(self._look)
            if self._lock.held or holder is None:
                return
            if (seen := _holder(now)) is None or seen.pid != holder.pid:
                return
            if seen.moved is None or seen.moved != holder.moved:
                raise _runs(seen)
        assert holder is not None
        log.warning("the node %s has stood still for %.0f s: taking over", holder.node, STILL_SECONDS)
        await self._end([s for s in await self._do(self._lock.sessions) if s.node == holder.node])

    async def _wait_for_return(self) -> None:
        """Gives a node that lost its connections with the server the time to show itself. Raises NodeRuns."""
        loop = asyncio.get_running_loop()
        until, seen = loop.time() + RETURN_SECONDS, dict[int, str | None]()
        while loop.time() < until:
            for session in await self._do(self._lock.sessions):
                if seen.setdefault(session.pid, session.moved) != session.moved:
                    raise _runs(session)
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(self, sessions: list[Session]) -> None:
        if sessions:
            await self._do(lambda: self._lock.end([session.pid for session in sessions]))

    async def _beat(self) -> None:
        """Moves, so that others see that this node lives; and sees itself if another one took over."""
        while True:
            try:
                if await self._do(lambda: self._evicted(self._lock)):
                    log.error("another node took over from this one: stopping")
                    self.lost.set()
                    return
                if not self._lock.held and await self._do(self._lock.take):
                    log.warning("the database is back, and this node is still the only one")
            except ApiError as error:
                log.warning("cannot show the database that this node lives: %s", error.problem.message)
            await asyncio.sleep(BEAT_SECONDS)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _holder(sessions: list[Session]) -> Session | None:
    return next((session for session in sessions if session.holds), None)


def _runs(session: Session) -> NodeRuns:
    return NodeRuns(
        f"the node {session.name!r} runs on this database already (connected from {session.address}); this "
        "release runs one node at a time: stop that one first, or give this one a database of its own"
    )
