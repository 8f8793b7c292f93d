"""The transport over RabbitMQ, through kombu: two connections, both on the event loop.

    AmqpTransport
      Publisher      sends batches, hears which ones nobody could take
      Listener       declares this node's queue and reads it

Two, because publishing reads frames too: on a shared one the two re-enter each other without end, and a broker short of
memory stops reading from publishers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer

from mgmtnode.bus.amqp_link import COUNTED, AmqpLink, Broker
from mgmtnode.bus.envelope import pack
from mgmtnode.bus.link import STOP_TIMEOUT
from mgmtnode.bus.transport import Receiver, Traffic
from mgmtnode.ports import Rng

log = logging.getLogger(__name__)

EVENTS = "mgmtnode.bus.events"
CONTENT_TYPE = "application/json"
START_TIMEOUT = 5.0
PUBLISHES_A_TURN, BYTES_A_TURN = 100, 1 << 20

QUEUE_EXPIRES = 60.0  # seconds without a consumer until the broker deletes the queue of a dead incarnation
MESSAGE_TTL = 60.0
QUEUE_LENGTH = 100_000
MAX_BUFFERED_BYTES = 32 << 20
MAX_BUFFERED_SECONDS = 30.0


class Outbound(NamedTuple):
    exchange: str
    key: str
    body: bytes
    since: float


class Publisher(AmqpLink):
    """Sends batches in order. What cannot leave waits, at most MAX_BUFFERED_SECONDS."""

    def __init__(
        self,
        address: str,
        broker: Broker,
        changed: Callable[[], None],
        returned: Callable[[str, bytes], None],
    ) -> None:
        super().__init__(f"{address} out", broker, changed)
        self.blocked = False
        self._properties = {"delivery_mode": 1, "app_id": address}
        self._returned = returned
        self._queue: deque[Outbound] = deque()
        self._leaving = 0  # how many of its first are with the stream
        self.buffered_bytes = 0

    def put(self, outbound: Outbound) -> None:
        self.buffered_bytes += len(outbound.body)
        self._queue.append(outbound)
        self.wake()

    def _open(self, connection: Any) -> None:
        self.blocked = False
        self.channel = connection.channel()
        self.channel.auto_decode = False
        self.channel.events["basic_return"].add(self._on_return)
        Exchange(EVENTS, type="fanout", durable=True)(self.channel).declare()

    def begun(self) -> None:
        self._leaving = 0

    def work(self) -> None:
        self._drop_stale()
        written = 0
        while self.has_work() and self._leaving < PUBLISHES_A_TURN and written < BYTES_A_TURN:
            outbound = self._queue[self._leaving]
            self._leaving += 1
            written += len(outbound.body)
            self._publish(outbound)

    def flushed(self) -> None:
        """They are taken off only once they have gone: a connection that breaks under them does not lose them."""
        for _ in range(self._leaving):
            self._drop()
        self._leaving = 0

    def _drop_stale(self) -> None:
        stale = time.monotonic() - MAX_BUFFERED_SECONDS
        while self.has_work() and self._queue[0].since < stale:
            self.counts["stale"] += 1
            self._drop()

    def _drop(self) -> None:
        self.buffered_bytes -= len(self._queue.popleft().body)

    def _publish(self, outbound: Outbound) -> None:
        message = self.channel.prepare_message(
            outbound.body,
            content_type=CONTENT_TYPE,
            content_encoding="utf-8",
            properties=self._properties,
        )
        mandatory = not outbound.exchange
        self.channel.basic_publish(message, outbound.exchange, outbound.key, mandatory=mandatory)
        self.counts["sent"] += 1
        self.counts["sent_bytes"] += len(outbound.body)

    def has_work(self) -> bool:
        return len(self._queue) > self._leaving and not self.blocked

    def finished(self) -> bool:
        return self.late or (self.leaving and not self._queue)

    def _on_return(self, error: object, exchange: str, key: str, message: Any) -> None:
        self.counts["returned"] += 1
        self._hand(self._returned, key, bytes(message.body))

    def _on_blocked(self, reason: str) -> None:
        super()._on_blocked(reason)
        self.blocked = True
        self._hand(self._changed)

    def _on_unblocked(self) -> None:
        super()._on_unblocked()
        self.blocked = False
        self._hand(self._changed)


class Listener(AmqpLink):
    """Reads this node's queue. Nothing is acknowledged: what a dead node had read, its caller sends again.

    The queue is durable, though its messages are not: RabbitMQ 4.3 refuses transient queues that are not
    exclusive, and an exclusive one could not be declared again before the broker noticed that the old
    connection is gone.
    """

    def __init__(
        self, address: str, broker: Broker, changed: Callable[[], None], take: Callable[[bytes], None]
    ) -> None:
        super().__init__(f"{address} in", broker, changed)
        self._address, self._take = address, take
        self._consumer: Any = None

    def _open(self, connection: Any) -> None:
        self.channel = connection.channel()
        self.channel.auto_decode = False
        queue = Queue(
            self._address,
            exchange=Exchange(EVENTS, type="fanout", durable=True),
            durable=True,
            expires=QUEUE_EXPIRES,
            message_ttl=MESSAGE_TTL,
            max_length=QUEUE_LENGTH,
            queue_arguments={"x-queue-type": "classic"},  # also where the virtual host's default is quorum
            # The newest connection wins: one whose loss the broker has not noticed yet gets nothing more.
            consumer_arguments={"x-priority": min(self.sessions, 1000)},
        )
        self._consumer = Consumer(
            self.channel,
            [queue],
            no_ack=True,
            accept=["json"],
            on_message=self._on_message,
            on_decode_error=self._on_decode_error,
        )
        self._consumer.consume()  # what comes from now on is read on the loop

    def _on_message(self, message: Any) -> None:
        if message.delivery_info["exchange"] and message.properties.get("app_id") == self._address:
            return  # what this node has told all
        if message.content_type == CONTENT_TYPE:
            self.counts["received"] += 1
            self.counts["received_bytes"] += len(message.body)
            self._hand(self._take, bytes(message.body))
        else:
            self.counts["foreign"] += 1

    def _on_decode_error(self, message: Any, error: Exception) -> None:
        self.counts["undecodable"] += 1
        log.warning("%s: a message cannot be decoded: %s", self.name, error)

    def _close(self, connection: Any) -> None:
        self._consumer.cancel()
        self.channel.queue_delete(self._address)
        super()._close(connection)


class AmqpTransport:
    """``url``: one or more brokers of one cluster, separated by semicolons. Bounds: MAX_BUFFERED_BYTES that
    wait to leave; QUEUE_LENGTH and MESSAGE_TTL in the broker, where all stays that the loop is too slow to read."""

    def __init__(self, url: str, address: str, *, rng: Rng, ca: str = "") -> None:
        broker = Broker(url, rng, ca)
        self._address = address
        self._receiver: Receiver | None = None
        self._changes = asyncio.Event()
        self._sessions: tuple[int, int] | None = None
        self._publisher = Publisher(address, broker, self._changed, self._on_undeliverable)
        self._listener = Listener(address, broker, self._changed, self._on_batch)

    @property
    def address(self) -> str:
        return self._address

    @property
    def healthy(self) -> bool:
        return self._connected() and not self._publisher.blocked

    @property
    def overloaded(self) -> bool:
        return self._publisher.buffered_bytes > MAX_BUFFERED_BYTES

    @property
    def connections(self) -> int:
        """How many connections were made so far."""
        return self._publisher.sessions + self._listener.sessions

    @property
    def counts(self) -> Counter[str]:
        return self._publisher.counts + self._listener.counts

    @property
    def traffic(self) -> Traffic:
        out, into = self._publisher.counts, self._listener.counts
        return Traffic(
            batches={name: out[name] + into[name] for name in COUNTED if not name.endswith("_bytes")},
            bytes={"sent": out["sent_bytes"], "received": into["received_bytes"]},
            buffered=self._publisher.buffered_bytes,
            reconnects=sum(max(0, link.sessions - 1) for link in (self._publisher, self._listener)),
        )

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._listener.start()
        self._publisher.start()
        if not await self._until(self._connected, START_TIMEOUT):
            log.warning("the broker cannot be reached; the node works on, alone, and goes on trying")

    async def stop(self) -> None:
        self._listener.stop()
        self._publisher.stop()
        await self._until(lambda: self._publisher.ended and self._listener.ended, 2 * STOP_TIMEOUT)
        self._receiver = None

    def renew(self) -> None:
        self._listener.renew()
        self._publisher.renew()

    def send(self, destination: str, envelopes: Sequence[bytes]) -> None:
        self._put("", destination, envelopes)

    def publish(self, envelopes: Sequence[bytes]) -> None:
        self._put(EVENTS, "", envelopes)

    def _put(self, exchange: str, key: str, envelopes: Sequence[bytes]) -> None:
        now = time.monotonic()
        for body in pack(envelopes):
            self._publisher.put(Outbound(exchange, key, body, now))

    def _connected(self) -> bool:
        return self._publisher.connected and self._listener.connected

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changes.clear()
                    await self._changes.wait()
        except TimeoutError:
            return False
        return True

    def _on_batch(self, batch: bytes) -> None:
        if self._receiver is not None:
            self._receiver.on_batch(batch)

    def _on_undeliverable(self, destination: str, batch: bytes) -> None:
        if self._receiver is not None:
            self._receiver.on_undeliverable(destination, batch)

    def _changed(self) -> None:
        self._changes.set()
        if not self._connected():
            return
        # Counted, because one link can be lost and back before the other is.
        sessions = (self._publisher.sessions, self._listener.sessions)
        before, self._sessions = self._sessions, sessions
        if before not in (None, sessions) and self._receiver is not None:
            self._receiver.on_reconnected()
