"""Whether a socket is readable, told by the event loop: watched once, and not anew for each wait."""

from __future__ import annotations

import asyncio
import contextlib
import os


class Watch:
    """Of one socket, on one loop. It watches a descriptor of its own, so that whoever has the socket may close it at
    any moment; a loop must never be left with a number that is another file's by now."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self.loop, self.of = loop, descriptor
        self._mine: int | None = os.dup(descriptor)
        self._waiting: asyncio.Future[None] | None = None
        self._unasked = 0
        loop.add_reader(self._mine, self._on_readable)

    @property
    def ended(self) -> bool:
        return self._mine is None

    def readable(self) -> asyncio.Future[None]:
        self._waiting = self.loop.create_future()
        return self._waiting

    def end(self) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._end)
        if self.loop.is_closed():
            self._end()

    def _end(self) -> None:
        mine, self._mine = self._mine, None
        if mine is not None:
            if not self.loop.is_closed():
                self.loop.remove_reader(mine)
            os.close(mine)

    def _on_readable(self) -> None:
        """What nobody has asked for says once more that it is there, unless it was being read this very moment: the
        server has closed the connection, most likely."""
        waiting, self._waiting = self._waiting, None
        self._unasked = 0 if waiting is not None else self._unasked + 1
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        elif self._unasked > 1:
            self._end()
