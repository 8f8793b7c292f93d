"""Blocking calls of psycopg2 on the event loop: while the database works, the loop does, and no thread is needed.

A thread for each transaction costs as much as the transaction: whenever the database has answered, a thread on one
core takes the interpreter away from the loop on another, and gives it back (docs/adr/0042). Here a transaction is a
greenlet. Where psycopg2 would block it calls ``wait``, which goes back to the loop, and goes on when the socket is
ready. Outside of ``run``, and in all other threads, it just blocks.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from mgmtnode.db.watch import sockets

T = TypeVar("T")
CONNECT_SECONDS = 5.0
# Not those of the loop, which resolve names of hosts: a database that does not answer would keep all of them.
_blocked = ThreadPoolExecutor(16, "db-blocked")


class Green(greenlet):  # type: ignore[misc]
    """Code that may wait for awaitables as if it blocked."""

    def waits_for(self, awaitable: Awaitable[T]) -> T:
        assert self.parent is not None
        return self.parent.switch(awaitable)  # type: ignore[no-any-return]


async def run(work: Callable[[], T]) -> T:
    """The result of ``work``, which may use ``wait``, ``pause`` and ``in_thread``. If this is cancelled, what ``work``
    waits for raises CancelledError there."""
    green = Green(work)
    given = green.switch()
    while not green.dead:
        try:
            value = await given
        except BaseException as exc:
            given = green.throw(exc)
        else:
            given = green.switch(value)
    return given  # type: ignore[no-any-return]


def wait(connection: Any) -> None:
    """The wait callback of psycopg2 (https://www.psycopg.org/docs/extensions.html, coroutines support)."""
    import psycopg2  # type: ignore[import-untyped]  # only where there is PostgreSQL
    from psycopg2 import extensions

    here = getcurrent()
    loop = asyncio.get_running_loop() if isinstance(here, Green) else None
    until = time.monotonic() + CONNECT_SECONDS if connection.status == extensions.STATUS_SETUP else None
    while (state := connection.poll()) != extensions.POLL_OK:
        reads = state == extensions.POLL_READ
        descriptor = connection.fileno()
        if loop is not None and isinstance(here, Green):
            here.waits_for(sockets(loop).readable(descriptor) if reads else _writable(loop, descriptor))
        elif not _block(descriptor, reads, until):
            raise psycopg2.OperationalError(f"the server did not answer within {CONNECT_SECONDS:g} s")


def pause(seconds: float) -> None:
    here = getcurrent()
    if isinstance(here, Green):
        here.waits_for(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def in_thread(work: Callable[[], T]) -> T:
    """``work``, which really blocks: the loop goes on meanwhile."""
    here = getcurrent()
    if not isinstance(here, Green):
        return work()
    return here.waits_for(asyncio.get_running_loop().run_in_executor(_blocked, work))


async def _writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready = loop.create_future()
    loop.add_writer(descriptor, _told, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _told(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _block(descriptor: int, reads: bool, until: float | None) -> bool:
    """Whether it is ready."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN if reads else select.POLLOUT)
    left = None if until is None else max(0.0, until - time.monotonic()) * 1000
    return bool(poll.poll(left))
