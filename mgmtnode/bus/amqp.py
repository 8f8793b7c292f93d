"""The transport over RabbitMQ. kombu blocks, so it lives here, in two threads, and nowhere else.

    AmqpTransport    the event loop's side
      Publisher      one thread, one connection: sends batches, hears which ones nobody could take
      Listener       one thread, one connection: declares this node's queue and reads it

Two connections, because publishing reads frames too: on a shared one the two re-enter each other without end,
and a broker short of memory stops reading from publishers.
"""

from __future__ import annotations

import asyncio
import logging
import select
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
PUBLISHES_A_TURN = 100
BATCHES_A_TURN = 100

QUEUE_EXPIRES = 60.0  # seconds without a consumer until the broker deletes the queue of a dead incarnation
MESSAGE_TTL = 60.0
QUEUE_LENGTH = 100_000
MAX_BUFFERED_BYTES = 32 << 20
MAX_BUFFERED_SECONDS = 30.0
MAX_UNREAD_BYTES = 32 << 20


class Outbound(NamedTuple):
    exchange: str
    key: str
    body: bytes
    since: float


class Publisher(AmqpLink):
    """Sends batches in order. What cannot leave waits, at most MAX_BUFFERED_SECONDS."""

    def __init__(
        self, name: str, broker: Broker, changed: Callable[[], None], returned: Callable[[str, bytes], None]
    ) -> None:
        super().__init__(name, broker, changed)
        self.blocked = False
        self._returned = returned
        self._queue: deque[Outbound] = deque()
        self._put_bytes = self._gone_bytes = 0  # each is written by one thread only

    @property
    def buffered_bytes(self) -> int:
        return self._put_bytes - self._gone_bytes

    def put(self, outbound: Outbound) -> None:
        self._put_bytes += len(outbound.body)
        self._queue.append(outbound)
        self.wake()

    def _open(self, connection: Any) -> None:
        self.blocked = False
        self.channel = connection.channel()
        self.channel.auto_decode = False
        self.channel.events["basic_return"].add(self._on_return)
        Exchange(EVENTS, type="fanout", durable=True)(self.channel).declare()

    def _work(self) -> None:
        stale = time.monotonic() - MAX_BUFFERED_SECONDS
        for _ in range(PUBLISHES_A_TURN):
            if not self._has_work():
                return
            # It is taken off only once it has gone: a connection that breaks under it does not lose it.
            outbound = self._queue[0]
            if outbound.since < stale:
                self.counts["stale"] += 1
            else:
                self._publish(outbound)
            self._queue.popleft()
            self._gone_bytes += len(outbound.body)

    def _publish(self, outbound: Outbound) -> None:
        message = self.channel.prepare_message(
            outbound.body,
            content_type=CONTENT_TYPE,
            content_encoding="utf-8",
            properties={"delivery_mode": 1},
        )
        mandatory = not outbound.exchange
        self.channel.basic_publish(message, outbound.exchange, outbound.key, mandatory=mandatory)
        self.counts["sent"] += 1
        self.counts["sent_bytes"] += len(outbound.body)

    def _has_work(self) -> bool:
        return bool(self._queue) and not self.blocked

    def _finished(self) -> bool:
        return self.late or (self.leaving and not self._queue)

    def _on_return(self, error: object, exchange: str, key: str, message: Any) -> None:
        self.counts["returned"] += 1
        self._returned(key, bytes(message.body))

    def _on_blocked(self, reason: str) -> None:
        super()._on_blocked(reason)
        self.blocked = True
        self._changed()

    def _on_unblocked(self) -> None:
        super()._on_unblocked()
        self.blocked = False
        self._changed()


class Listener(AmqpLink):
    """Reads this node's queue. Nothing is acknowledged: what a dead node had read, its caller sends again.

    The queue is durable, though its messages are not: RabbitMQ 4.3 refuses transient queues that are not
    exclusive, and an exclusive one could not be declared again before the broker noticed that the old
    connection is gone.
    """

    def __init__(self, address: str, broker: Broker, changed: Callable[[], None], inbox: Inflow) -> None:
        super().__init__(f"{address} in", broker, changed)
        self._address, self._inbox = address, inbox
        self._watching = True
        self._consumer: Any = None

    def _open(self, connection: Any) -> None:
        self._watching = True
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
        self._consumer.consume()

    def _on_message(self, message: Any) -> None:
        if message.content_type == CONTENT_TYPE:
            self.counts["received"] += 1
            self.counts["received_bytes"] += len(message.body)
            self._inbox.put("", bytes(message.body))
        else:
            self.counts["foreign"] += 1

    def _on_decode_error(self, message: Any, error: Exception) -> None:
        self.counts["undecodable"] += 1
        log.warning("%s: a message cannot be decoded: %s", self.name, error)

    def _may_read(self) -> bool:
        return self._inbox.unread < MAX_UNREAD_BYTES

    def _watch(self, poll: select.poll, connection: Any) -> None:
        """While the event loop lags behind, the socket is left alone: the broker keeps what is not read."""
        if self._watching != self._may_read():
            self._watching = not self._watching
            poll.modify(connection.sock, select.POLLIN if self._watching else 0)

    def _tick(self, connection: Any) -> None:
        if self._watching:
            super()._tick(connection)
        else:
            connection.send_heartbeat()  # the broker's heartbeats lie unread: it must not be taken for dead

    def _close(self, connection: Any) -> None:
        self._consumer.cancel()
        self.channel.queue_delete(self._address)
        super()._close(connection)


class Inflow:
    """From the threads to the loop: batches that came ("" as destination) or came back, many a wake-up."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.receiver: Receiver | None = None
        self._batches: deque[tuple[str, bytes]] = deque()
        self._put_bytes = self._taken_bytes = 0
        self._scheduled = False

    @property
    def unread(self) -> int:
        return self._put_bytes - self._taken_bytes

    def put(self, destination: str, batch: bytes) -> None:
        """From a thread."""
        self._put_bytes += len(batch)
        self._batches.append((destination, batch))
        if not self._scheduled:
            self._scheduled = True
            self.soon(self._take)

    def soon(self, callback: Callable[[], None]) -> None:
        try:
            if self.loop is not None:
                self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return  # the loop is closed: the process ends

    def _take(self) -> None:
        self._scheduled = False
        for _ in range(min(BATCHES_A_TURN, len(self._batches))):
            destination, batch = self._batches.popleft()
            self._taken_bytes += len(batch)
            if self.receiver is None:
                continue
            if destination:
                self.receiver.on_undeliverable(destination, batch)
            else:
                self.receiver.on_batch(batch)
        if self._batches and not self._scheduled:
            self._scheduled = True
            self.soon(self._take)


class AmqpTransport:
    """``url``: one or more brokers of one cluster, separated by semicolons. Bounds: MAX_BUFFERED_BYTES that
    wait to leave, MAX_UNREAD_BYTES that wait for the loop, QUEUE_LENGTH and MESSAGE_TTL in the broker."""

    def __init__(self, url: str, address: str, *, rng: Rng, ca: str = "") -> None:
        broker = Broker(url, rng, ca)
        self._address = address
        self._inflow = Inflow()
        self._changes = asyncio.Event()
        self._sessions: tuple[int, int] | None = None
        self._publisher = Publisher(f"{address} out", broker, self._changed, self._inflow.put)
        self._listener = Listener(address, broker, self._changed, self._inflow)

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
        self._inflow.receiver, self._inflow.loop = receiver, asyncio.get_running_loop()
        self._listener.start()
        self._publisher.start()
        if not await self._until(self._connected, START_TIMEOUT):
            log.warning("the broker cannot be reached; the node works on, alone, and goes on trying")

    async def stop(self) -> None:
        self._listener.stop()
        self._publisher.stop()
        await self._until(lambda: self._publisher.ended and self._listener.ended, 2 * STOP_TIMEOUT)
        self._inflow.receiver = None

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

    def _changed(self) -> None:
        self._inflow.soon(self._notice)

    def _notice(self) -> None:
        self._changes.set()
        if not self._connected():
            return
        # Counted, because a link can be lost and back before the loop hears of either.
        sessions = (self._publisher.sessions, self._listener.sessions)
        before, self._sessions = self._sessions, sessions
        if before not in (None, sessions) and self._inflow.receiver is not None:
            self._inflow.receiver.on_reconnected()
