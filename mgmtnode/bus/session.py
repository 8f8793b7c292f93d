"""What the event loop does for one connection to a broker, from when it is open until it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextvars import Context
from typing import Protocol

from mgmtnode.bus.stream import Stream

TICK = 1.0
# A broker with a memory alarm reads nothing for a while; sockets that are cut earlier lose what they hold.
SEND_TIMEOUT = 60.0


class Talk(Protocol):
    """What there is to do. Nothing here may wait; what it raises ends the session."""

    def read(self) -> None:
        """Hands the library all that the stream has received."""
        ...

    def work(self) -> None:
        """Has the library write to the stream."""
        ...

    def has_work(self) -> bool: ...

    def flushed(self) -> None:
        """All that was written has gone."""
        ...

    def tick(self) -> None:
        """Each second."""
        ...

    def finished(self) -> bool:
        """Whether the session may end."""
        ...


class Session:
    """Reads when something comes, works and sends when woken: turns of the loop, never more than one at a time."""

    def __init__(self, talk: Talk, stream: Stream, context: Context) -> None:
        self.stream = stream
        self._talk, self._context = talk, context
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._awake = False
        self._stuck_since: float | None = None
        self._descriptor = stream.fileno()
        self._loop.add_reader(self._descriptor, self._on_readable)
        self._timer = self._loop.call_later(TICK, self._on_tick)
        self._loop.call_soon(self._on_readable)

    async def over(self) -> None:
        """Returns when ``Talk.finished``. Raises what has broken it."""
        await self._over

    def end(self, cause: Exception | None = None) -> None:
        if not self._over.done():
            if cause is None:
                self._over.set_result(None)
            else:
                self._over.set_exception(cause)

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn, context=self._context)

    def close(self) -> None:
        """Leaves the stream alone from now on."""
        self.end()
        self._timer.cancel()
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        with contextlib.suppress(OSError):
            self.stream.flush()  # the last words of a library that has been told to close

    def _on_readable(self) -> None:
        if self._over.done():
            return
        try:
            if self.stream.receive():
                self._talk.read()
        except Exception as exc:
            self.end(exc)
        else:
            self._turn()

    def _on_tick(self) -> None:
        self._timer = self._loop.call_later(TICK, self._on_tick)
        self._on_readable()  # what TLS may have kept back
        if self._over.done():
            return
        try:
            if self._stuck_since is not None and time.monotonic() - self._stuck_since > SEND_TIMEOUT:
                raise TimeoutError(f"nothing could be sent for {SEND_TIMEOUT:g} s")
            self._talk.tick()
        except Exception as exc:
            self.end(exc)
        else:
            self._turn()

    def _turn(self) -> None:
        self._awake = False
        if self._over.done():
            return
        try:
            if self._flush():
                self._talk.work()
            sent = self._flush()
            if self._talk.finished():
                self.end()
            elif sent and self._talk.has_work():
                self.wake()
        except Exception as exc:
            self.end(exc)

    def _flush(self) -> bool:
        """Whether nothing is left to be sent."""
        if not self.stream.unsent:
            return True
        sent = self.stream.flush()
        if sent:
            self._talk.flushed()
        if sent and self._stuck_since is not None:
            self._stuck_since = None
            self._loop.remove_writer(self._descriptor)
        elif not sent and self._stuck_since is None:
            self._stuck_since = time.monotonic()
            self._loop.add_writer(self._descriptor, self._turn)
        return sent
