"""Reads requests from the queue and acknowledges them once they are settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from mgmtnode.api.amqp import topology
from mgmtnode.api.amqp.frames import FrameGuard
from mgmtnode.bus.amqp_link import AmqpLink, Broker

ONE_BY_ONE = 32  # messages a session takes one at a time when the session before it broke


class Delivery(NamedTuple):
    """A message as it came. ``flaw``: what is wrong with it already (``frames``). Only its session can settle it."""

    session: int
    tag: int
    redelivered: bool
    key: str
    properties: dict[str, Any]
    body: bytes
    flaw: str


class Verdict(StrEnum):
    """DONE: acknowledged. BURY: to the dead letters. AGAIN: back to the queue, counted as a delivery."""

    DONE = "done"
    BURY = "bury"
    AGAIN = "again"


class Intake(AmqpLink):
    """Gives each message to ``deliver`` and hears how it ended. Bounds: at most
    ``prefetch`` are taken and not settled, twice that after a connection broke.

    A message that breaks the connection for a reason nobody thought of takes back with it whatever was taken
    besides, and each of these counts a delivery. So a session that follows a broken one takes one message at a
    time until ONE_BY_ONE went well: the broker then buries the one that breaks it, and no other.
    """

    broken = (Exception,)

    def __init__(
        self,
        name: str,
        broker: Broker,
        changed: Callable[[], None],
        *,
        prefetch: int,
        deliver: Callable[[Delivery], None],
        open_for_more: Callable[[], bool],
    ) -> None:
        super().__init__(name, broker, changed)
        self._prefetch, self._deliver, self._open_for_more = prefetch, deliver, open_for_more
        self._settled: deque[tuple[Delivery, Verdict]] = deque()
        self.in_flight = 0
        self._guard: FrameGuard
        self._consumer = self._cancelled = ""
        self._window = self._received = 0

    @property
    def consuming(self) -> bool:
        """Whether it takes requests."""
        return self.connected and bool(self._consumer)

    def settle(self, delivery: Delivery, verdict: Verdict) -> None:
        self._settled.append((delivery, verdict))
        self.abandon()

    def abandon(self) -> None:
        """A delivery ended, and is given to somebody else when this session ends."""
        self.in_flight -= 1
        self.wake()

    def _open(self, connection: Any) -> None:
        self._guard = FrameGuard(connection, topology.BODY_LIMIT)
        self.channel = connection.channel()
        self.channel.auto_decode = False
        topology.declare(self.channel)

    def begun(self) -> None:
        self._consumer, self._cancelled, self._window, self._received = "", "", 0, 0

    def work(self) -> None:
        while self._settled:
            delivery, verdict = self._settled.popleft()
            if delivery.session != self.sessions:
                continue  # the broker has given it to somebody else
            if verdict is Verdict.DONE:
                self.channel.basic_ack(delivery.tag)
            else:
                self.channel.basic_reject(delivery.tag, requeue=verdict is Verdict.AGAIN)
        self._set_window(self._wanted_window())

    def _wanted_window(self) -> int:
        if self.leaving or not self._open_for_more():
            return 0
        if not self._consumer and self.in_flight >= self._prefetch:
            return 0  # those of the session before
        careful = self.sessions > 1 and self._received < ONE_BY_ONE
        return 1 if careful else self._prefetch

    def _set_window(self, window: int) -> None:
        """A consumer keeps the window it began with, so another window is another consumer. Nothing here is waited for:
        the broker does one after the other, and a refusal breaks the session."""
        if window == self._window:
            return
        before, self._consumer, self._window = self._consumer, "", window
        if window:
            consumer = f"window-{window}-{self._received}"
            self._set_prefetch(window)
            self.channel.basic_consume(
                topology.REQUESTS, consumer_tag=consumer, nowait=True, callback=self._on_message
            )
            self._consumer = consumer
        if before:
            self.channel.basic_cancel(before, nowait=True)
            self.channel.callbacks.pop(self._cancelled, None)  # nothing of it is on its way any more
            self._cancelled = before

    def _close(self, connection: Any) -> None:
        self.work()  # what was settled a moment ago
        super()._close(connection)

    def _on_message(self, message: Any) -> None:
        self._received += 1
        about = message.delivery_info
        self._hand(
            self._take,
            Delivery(
                session=self.sessions,
                tag=about["delivery_tag"],
                redelivered=about["redelivered"],
                key=about["routing_key"],
                properties=message.properties,
                body=bytes(message.body or b""),
                flaw=self._guard.flaw,
            ),
        )

    def _take(self, delivery: Delivery) -> None:
        self.in_flight += 1
        self._deliver(delivery)
