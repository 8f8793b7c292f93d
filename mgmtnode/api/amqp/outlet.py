"""Publishes answers and events; the broker confirms each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mgmtnode.api.amqp import topology
from mgmtnode.bus.amqp import PUBLISHES_A_TURN
from mgmtnode.bus.amqp_link import AmqpLink, Broker

PERSISTENT = 2
MOST_TRIES = 5  # of one message; each but the last broke a connection, by itself or by chance


class Fate(StrEnum):
    """What became of a message: TAKEN by its queues, UNROUTABLE as its reply queue is gone, REFUSED by a queue that
    is full, or UNSENT when connections broke on it again and again."""

    TAKEN = "taken"
    UNROUTABLE = "unroutable"
    REFUSED = "refused"
    UNSENT = "unsent"


@dataclass(eq=False, slots=True)
class Outgoing:
    """A message to publish: to a queue (a reply, which comes back if there is none), or with an exchange."""

    key: str
    body: bytes
    properties: dict[str, Any] = field(default_factory=dict)
    content_type: str = "application/json"
    headers: dict[str, Any] = field(default_factory=dict)
    exchange: str = ""
    tries: int = 0
    unroutable: bool = False
    settled: Callable[[Fate], None] = lambda fate: None
    wanted: Callable[[], bool] = lambda: True


class Outlet(AmqpLink):
    """Sends in order. What was not confirmed when a connection breaks is sent again, so messages can come twice.

    It has no bound of its own: whoever sends waits for the fate of what it sent, and is bounded itself.
    """

    broken = (Exception,)

    def __init__(self, name: str, broker: Broker, changed: Callable[[], None]) -> None:
        super().__init__(name, broker, changed)
        self.blocked = False
        self._queue: deque[Outgoing] = deque()
        self._sent: dict[int, Outgoing] = {}
        self._number = 0

    async def send(self, messages: Iterable[Outgoing]) -> list[Fate]:
        """Returns once the broker has told what became of each. Cancelled, what has not gone does not go."""
        loop = asyncio.get_running_loop()
        fates: list[asyncio.Future[Fate]] = []
        for message in messages:
            fates.append(fate := loop.create_future())
            message.settled, message.wanted = _told(fate), _waited_for(fate)
            self._queue.append(message)
        self.wake()
        return list(await asyncio.gather(*fates))

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._sent)

    def _open(self, connection: Any) -> None:
        self.blocked = False
        self.channel = connection.channel()
        self.channel.auto_decode = False
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self._on_ack)
        self.channel.events["basic_nack"].add(self._on_nack)
        self.channel.events["basic_return"].add(self._on_return)
        topology.declare(self.channel)

    def begun(self) -> None:
        """What was not confirmed is sent again."""
        unconfirmed = list(self._sent.values())
        self._sent.clear()
        self._number = 0
        for message in reversed(unconfirmed):
            if message.tries >= MOST_TRIES:
                message.settled(Fate.UNSENT)
            else:
                self._queue.appendleft(message)

    def work(self) -> None:
        for _ in range(PUBLISHES_A_TURN):
            if not self.has_work():
                return
            message = self._queue.popleft()
            if not message.wanted():
                continue
            message.tries += 1
            message.unroutable = False
            # Noted before it is published, because publishing reads, and what it reads may be the confirmation.
            self._number += 1
            self._sent[self._number] = message
            self._publish(message)

    def _publish(self, message: Outgoing) -> None:
        prepared = self.channel.prepare_message(
            message.body,
            content_type=message.content_type,
            content_encoding="utf-8",
            headers=message.headers,
            properties=message.properties | {"delivery_mode": PERSISTENT},
        )
        mandatory = not message.exchange
        self.channel.basic_publish(prepared, message.exchange, message.key, mandatory=mandatory)

    def has_work(self) -> bool:
        return bool(self._queue) and not self.blocked

    def finished(self) -> bool:
        return self.late or (self.leaving and not self.waiting)

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._hand(self._settle, number, multiple, Fate.TAKEN)

    def _on_nack(self, number: int, multiple: bool) -> None:
        self._hand(self._settle, number, multiple, Fate.REFUSED)

    def _settle(self, number: int, multiple: bool, fate: Fate) -> None:
        numbers = [n for n in self._sent if n <= number] if multiple else [number]
        for n in numbers:
            if (message := self._sent.pop(n, None)) is not None:
                message.settled(Fate.UNROUTABLE if message.unroutable else fate)

    def _on_return(self, error: object, exchange: str, key: str, message: Any) -> None:
        """Comes before the confirmation, and names the queue that is not there: nothing on its way there arrives."""
        for sent in self._sent.values():
            if sent.exchange == exchange and sent.key == key:
                sent.unroutable = True

    def _on_blocked(self, reason: str) -> None:
        super()._on_blocked(reason)
        self.blocked = True
        self._hand(self._changed)

    def _on_unblocked(self) -> None:
        super()._on_unblocked()
        self.blocked = False
        self._hand(self._changed)


def _waited_for(fate: asyncio.Future[Fate]) -> Callable[[], bool]:
    return lambda: not fate.cancelled()


def _told(fate: asyncio.Future[Fate]) -> Callable[[Fate], None]:
    def told(value: Fate) -> None:
        if not fate.done():
            fate.set_result(value)

    return told
