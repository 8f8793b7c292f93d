"""A thread with one broker connection: connects, waits for frames or work, ticks heartbeats, reconnects."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from mgmtnode.ports import Rng

log = logging.getLogger(__name__)

TICK = 1.0
FIRST_RETRY, LAST_RETRY = 0.1, 5.0
# A broker with a memory alarm reads nothing for a while; sockets that are cut earlier lose what they hold.
SOCKET_TIMEOUT = 60.0
SETUP_TIMEOUT = 10.0
STOP_TIMEOUT = 3.0
READ_TIMEOUT = 5.0
READS_A_TURN = 200


class Link:
    """Knows no AMQP library: subclasses connect, say what to do then, and what a broken connection raises.

    ``connection`` is theirs; it has ``sock``, ``blocking_read``, ``heartbeat_tick``, ``close``, ``collect``.
    """

    broken: ClassVar[tuple[type[Exception], ...]] = (OSError,)

    def __init__(self, name: str, rng: Rng, changed: Callable[[], None]) -> None:
        self.name, self.connected, self.ended = name, False, False
        self.sessions = self.failures = 0
        self._rng, self._changed = rng, changed
        self._awake, self._wakener = socket.socketpair()
        self._awake.setblocking(False)
        self._wakener.setblocking(False)
        self._woken = self._stale = False
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begins the end; ``ended`` once it has come, after STOP_TIMEOUT or a little more."""
        self._stop_at = time.monotonic() + STOP_TIMEOUT
        self._woken = False
        self.wake()

    def renew(self) -> None:
        """Any thread. Lets go of the connection as if it had broken."""
        self._stale = True
        self.wake()

    def wake(self) -> None:
        """Any thread. Costs a system call only if the link is not awake yet."""
        if not self._woken:
            self._woken = True
            try:
                self._wakener.send(b"\0")
            except OSError:
                return  # full, so it wakes anyway; or the thread has ended

    @property
    def leaving(self) -> bool:
        return self._stop_at is not None

    @property
    def late(self) -> bool:
        """Whether the time to stop is over."""
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    def _run(self) -> None:
        try:
            while not self.leaving:
                self._session()
                if not self.leaving:
                    self._pause()
        finally:
            self.ended = True
            self._awake.close()
            self._wakener.close()
            self._changed()

    def _session(self) -> None:
        connection: Any = None
        self._stale = False
        try:
            connection = self._connect()
            connection.sock.settimeout(SETUP_TIMEOUT)
            self._open(connection)
            connection.sock.settimeout(SOCKET_TIMEOUT)
            self.sessions += 1
            self.failures = 0
            self._set_connected(True)
            self._serve(connection)
            connection.sock.settimeout(STOP_TIMEOUT)
            self._close(connection)
        except self.broken as exc:
            self.failures += 1
            if not self.leaving:
                log.warning("%s: %s: %s", self.name, type(exc).__name__, exc)
        finally:
            self._set_connected(False)
            if connection is not None:
                self._collect(connection)

    def _collect(self, connection: Any) -> None:
        try:
            connection.collect()
        except self.broken as exc:
            log.debug("%s: while letting go of the connection: %s", self.name, exc)

    def _set_connected(self, connected: bool) -> None:
        if self.connected != connected:
            self.connected = connected
            log.info("%s: %s", self.name, "connected" if connected else "not connected")
            self._changed()

    def _serve(self, connection: Any) -> None:
        poll = select.poll()
        poll.register(self._awake, select.POLLIN)
        poll.register(connection.sock, select.POLLIN)
        next_tick = time.monotonic() + TICK
        self._work()
        while not self._finished():
            if self._stale:
                raise ConnectionError("nothing comes through")
            self._watch(poll, connection)
            held = self._may_read() and _held(connection)
            for descriptor, _ in poll.poll(0 if held or self._has_work() else TICK * 1000):
                if descriptor == self._awake.fileno():
                    self._drain_wakes()
                else:
                    held = True
            if held:
                self._read(connection)
            self._work()
            if time.monotonic() >= next_tick:
                self._tick(connection)
                next_tick = time.monotonic() + TICK

    def _drain_wakes(self) -> None:
        self._woken = False
        self._awake.recv(4096)

    def _read(self, connection: Any) -> None:
        """Frames that are there, one by one: ``drain_events`` waits for a whole method; a heartbeat is none.
        Never with a timeout of 0, which spins on a frame that has come in part."""
        more = select.poll()
        more.register(connection.sock, select.POLLIN)
        for _ in range(READS_A_TURN):
            try:
                connection.blocking_read(READ_TIMEOUT)
            except TimeoutError:
                return
            if not self._may_read() or not (_held(connection) or more.poll(0)):
                return

    def _pause(self) -> None:
        delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(self.failures, 10)) * self._rng.uniform(0.5, 1.0)
        until = time.monotonic() + delay
        while not self.leaving and (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([self._awake], [], [], left)
            if ready:
                self._drain_wakes()

    # What subclasses say.

    def _connect(self) -> Any:
        raise NotImplementedError

    def _open(self, connection: Any) -> None:
        raise NotImplementedError

    def _work(self) -> None:
        """What is to be done besides reading, each time the link wakes."""

    def _has_work(self) -> bool:
        return False

    def _may_read(self) -> bool:
        return True

    def _watch(self, poll: select.poll, connection: Any) -> None:
        """Before each wait."""

    def _tick(self, connection: Any) -> None:
        connection.heartbeat_tick(rate=2)

    def _finished(self) -> bool:
        return self.leaving

    def _close(self, connection: Any) -> None:
        connection.close()


def _held(connection: Any) -> bool:
    """Whether TLS holds bytes that polling the socket does not show."""
    return isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending() > 0
