"""Which sockets are readable, for one event loop: they are made known once, and then just asked about.

The loop's own ``add_reader`` and ``remove_reader`` cost more than all else of a wait; and a reader that is left there
is not told again after an error (uvloop), and must be taken away before the socket is closed, which its owner may do
at any moment.
"""

from __future__ import annotations

import asyncio
import select
from weakref import WeakKeyDictionary

ONCE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT


class Sockets:
    """A socket is looked at only while somebody waits for it; the kernel forgets it when it is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._epoll = loop, select.epoll()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def readable(self, descriptor: int) -> asyncio.Future[None]:
        """Done when there is something to read: data, the end, or an error. At times without any."""
        try:
            self._epoll.modify(descriptor, ONCE)
        except FileNotFoundError:
            self._epoll.register(descriptor, ONCE)
        waiting = self._waiting[descriptor] = self._loop.create_future()
        return waiting

    def _on_ready(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            waiting = self._waiting.pop(descriptor, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)


_of: WeakKeyDictionary[asyncio.AbstractEventLoop, Sockets] = WeakKeyDictionary()


def sockets(loop: asyncio.AbstractEventLoop) -> Sockets:
    found = _of.get(loop)
    if found is None:
        found = _of[loop] = Sockets(loop)
    return found
