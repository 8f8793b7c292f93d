"""The transport over Redis, for small installations: every node is a subscriber, every batch a publication.

Subscriptions fit what a transport promises better than queues in Redis do: nothing piles up for nodes that are gone,
and a publication answers how many heard it, so that one nobody heard goes back to its sender at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mgmtnode.bus.envelope import pack
from mgmtnode.bus.transport import Receiver, Traffic
from mgmtnode.ports import Clock, Rng

log = logging.getLogger(__name__)

EVENTS = "mgmtnode.bus.events"
COUNTED = ("sent", "received", "returned", "stale")
START_SECONDS = 5.0
CONNECT_SECONDS = 5.0
SEND_SECONDS = 5.0  # for a pipeline of publications to be answered
STOP_SECONDS = 3.0
LISTEN_SECONDS = 1.0
CHECK_SECONDS = 5
BATCHES_A_TURN = 100
FIRST_RETRY, LAST_RETRY = 0.1, 5.0
MAX_BUFFERED_BYTES = 32 << 20
MAX_BUFFERED_SECONDS = 30.0

AWAY = (RedisError, OSError, TimeoutError)


class Outbound(NamedTuple):
    channel: str
    body: bytes
    since: float


class RedisTransport:
    """Bounds: MAX_BUFFERED_BYTES that wait to leave, for MAX_BUFFERED_SECONDS; and what Redis keeps for a subscriber
    that does not read (``client-output-buffer-limit pubsub``) before it cuts it off."""

    def __init__(self, url: str, address: str, *, clock: Clock, rng: Rng, ca: str = "") -> None:
        self._address, self._clock, self._rng = address, clock, rng
        # Channels are the same in all databases of a Redis; its number tells the clusters on one apart.
        self._prefix = f"{urlsplit(url).path.strip('/') or 0}:"
        tls: dict[str, Any] = {"ssl_ca_certs": ca} if ca and urlsplit(url).scheme == "rediss" else {}
        self._client: Redis = Redis.from_url(
            url,
            max_connections=4,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_keepalive=True,
            health_check_interval=CHECK_SECONDS,
            retry=Retry(NoBackoff(), 0),
            **tls,
        )
        self._receiver: Receiver | None = None
        self._queue: deque[Outbound] = deque()
        self._queued_bytes = self._sent_bytes = self._received_bytes = 0
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self._work, self._changes = asyncio.Event(), asyncio.Event()
        self._up = {"in": False, "out": False}
        self._sessions = 0
        self._ways: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def address(self) -> str:
        return self._address

    @property
    def healthy(self) -> bool:
        return all(self._up.values())

    @property
    def overloaded(self) -> bool:
        return self._queued_bytes > MAX_BUFFERED_BYTES

    @property
    def traffic(self) -> Traffic:
        return Traffic(
            batches=dict(self._counts),
            bytes={"sent": self._sent_bytes, "received": self._received_bytes},
            buffered=self._queued_bytes,
            reconnects=max(0, self._sessions - 1),
        )

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        loop = asyncio.get_running_loop()
        for way, session in (("in", self._listen), ("out", self._send_all)):
            name = f"{self._address} {way}"
            self._ways.append(loop.create_task(self._keep(way, session), name=name, context=Context()))
        if not await self._until(lambda: self.healthy, START_SECONDS):
            log.warning("Redis cannot be reached; the node works on, alone, and goes on trying")

    async def stop(self) -> None:
        await self._until(lambda: not self._queue or not self.healthy, STOP_SECONDS)
        for task in self._ways:
            task.cancel()
        if self._ways:
            await asyncio.wait(self._ways, timeout=STOP_SECONDS)
        self._receiver = None
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(STOP_SECONDS):
                await self._client.aclose()

    def renew(self) -> None:
        for session in self._running.values():
            session.cancel()

    def send(self, destination: str, envelopes: Sequence[bytes]) -> None:
        self._put(destination, envelopes)

    def publish(self, envelopes: Sequence[bytes]) -> None:
        self._put(EVENTS, envelopes)

    def _put(self, channel: str, envelopes: Sequence[bytes]) -> None:
        now = self._clock.monotonic()
        for body in pack(envelopes):
            self._queue.append(Outbound(channel, body, now))
            self._queued_bytes += len(body)
        self._work.set()

    # the two connections

    async def _keep(self, way: str, session: Callable[[], Awaitable[None]]) -> None:
        """One session after the other. A task each, which ``renew`` may cancel without ending this one."""
        pause = FIRST_RETRY
        while True:
            running = self._running[way] = asyncio.ensure_future(session())
            try:
                await asyncio.wait((running,))
            finally:
                well = self._up[way]
                self._set(way, False)
                if not running.done():
                    running.cancel()
                    await asyncio.wait((running,))
            self._complain(way, running)
            pause = FIRST_RETRY if well else min(LAST_RETRY, pause * 2)
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))

    def _complain(self, way: str, ended: asyncio.Task[None]) -> None:
        exc = None if ended.cancelled() else ended.exception()
        if exc is not None:
            foreseen = isinstance(exc, AWAY)
            log.warning(
                "%s %s: %s: %s", self._address, way, type(exc).__name__, exc, exc_info=not foreseen and exc
            )

    def _set(self, way: str, up: bool) -> None:
        if self._up[way] == up:
            return
        self._up[way] = up
        self._changes.set()
        if not self.healthy:
            return
        self._sessions += 1
        log.info("%s: connected to Redis", self._address)
        if self._sessions > 1 and self._receiver is not None:
            self._receiver.on_reconnected()

    async def _listen(self) -> None:
        channels = {self._prefix + self._address, self._prefix + EVENTS}
        async with self._client.pubsub() as subscription:
            async with asyncio.timeout(CONNECT_SECONDS):
                await subscription.subscribe(*channels)
            confirmed = taken = 0
            while True:
                message = await subscription.get_message(timeout=LISTEN_SECONDS)
                if message is None:
                    continue
                if message["type"] == "message":
                    self._take(message["data"])
                elif message["type"] == "subscribe":
                    confirmed += 1
                    self._set("in", confirmed == len(channels))
                taken += 1
                if taken % BATCHES_A_TURN == 0:
                    await asyncio.sleep(0)  # what has arrived already is read without a turn of the loop

    def _take(self, body: bytes) -> None:
        self._counts["received"] += 1
        self._received_bytes += len(body)
        if self._receiver is not None:
            self._receiver.on_batch(body)

    async def _send_all(self) -> None:
        async with self._client.client() as client:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.ping()
            self._set("out", True)
            while True:
                while not self._queue:
                    self._changes.set()
                    self._work.clear()
                    await self._work.wait()
                await self._send_some(client)

    async def _send_some(self, client: Redis) -> None:
        """What is sent is taken off only once it is answered: a connection that breaks under it does not lose it,
        though some of it may be sent twice."""
        self._drop_stale()
        some = [self._queue[n] for n in range(min(BATCHES_A_TURN, len(self._queue)))]
        if not some:
            return
        async with asyncio.timeout(SEND_SECONDS), client.pipeline(transaction=False) as pipeline:
            for outbound in some:
                pipeline.publish(self._prefix + outbound.channel, outbound.body)
            heard = await pipeline.execute()
        for outbound, listeners in zip(some, heard, strict=True):
            self._gone(self._queue.popleft(), "sent")
            self._sent_bytes += len(outbound.body)
            if not listeners and outbound.channel != EVENTS:
                self._counts["returned"] += 1
                if self._receiver is not None:
                    self._receiver.on_undeliverable(outbound.channel, outbound.body)

    def _drop_stale(self) -> None:
        stale = self._clock.monotonic() - MAX_BUFFERED_SECONDS
        while self._queue and self._queue[0].since < stale:
            self._gone(self._queue.popleft(), "stale")

    def _gone(self, outbound: Outbound, how: str) -> None:
        self._counts[how] += 1
        self._queued_bytes -= len(outbound.body)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changes.clear()
                    await self._changes.wait()
        except TimeoutError:
            return False
        return True
