"""Shared over Redis: the only import of redis, and of limits, whose scripts count there.

A task of its own subscribes to the announcements, and thereby knows whether Redis answers. While it does not, nobody
asks: a Redis that is dead costs those who were asking at that moment ANSWER_SECONDS, and nobody else anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, TypeVar
from urllib.parse import urlsplit

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mgmtnode.ports import Clock, Rng
from mgmtnode.shared.port import ANSWER_SECONDS, Heard, Window
from mgmtnode.telemetry.families import REDIS_SECONDS, REDIS_UP
from mgmtnode.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)
T = TypeVar("T")

CONNECTIONS = 32
CONNECT_SECONDS = 2.0
LISTEN_SECONDS = 1.0
CHECK_SECONDS = 5
FIRST_PAUSE, LAST_PAUSE = 0.5, 10.0
STEADY_SECONDS = 10.0  # who answered for so long is asked again soon after a failure


class RedisShared:
    """``cluster`` sets the keys of this cluster apart from those of others on the same Redis. ``patience``: the longest
    that anybody waits for an answer, in seconds."""

    def __init__(
        self,
        url: str,
        cluster: str,
        *,
        clock: Clock,
        rng: Rng,
        telemetry: Telemetry,
        ca: str = "",
        patience: float = ANSWER_SECONDS,
    ) -> None:
        self._patience = patience
        self._prefix = f"mgmtnode:{cluster}"
        self._clock, self._rng = clock, rng
        tls: dict[str, Any] = {"ssl_ca_certs": ca} if ca and urlsplit(url).scheme == "rediss" else {}
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=patience,
            socket_connect_timeout=CONNECT_SECONDS,
            health_check_interval=CHECK_SECONDS,
            retry=Retry(NoBackoff(), 0),
            **tls,
        )
        self._client: Redis = Redis(connection_pool=self._pool)
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=self._prefix,
            connection_pool=self._pool,  # type: ignore[arg-type]  # documented, and forgotten in the annotation
        )
        self._rates, self._notes = SlidingWindowCounterRateLimiter(storage), MovingWindowRateLimiter(storage)
        self._heard: dict[str, list[Heard]] = {}
        self._failed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._announcing: set[asyncio.Task[object]] = set()
        self._asking = telemetry.operation(
            "redis", ("what",), family=REDIS_SECONDS, logger=log, kind="client"
        )
        self.up = self._complained = False
        telemetry.metrics.read(REDIS_UP, lambda: self.up)

    async def start(self) -> None:
        """Returns at once; whether Redis is there shows later."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="redis", context=Context())

    async def stop(self) -> None:
        self.up = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for task in self._announcing:
            task.cancel()
        with contextlib.suppress(Exception):  # it is let go of in any case
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._client.aclose()
                await self._pool.aclose()

    # what is asked

    async def take(self, key: str, window: Window) -> bool | None:
        return await self._ask("take", lambda: self._rates.hit(_item(window), key))

    async def note(self, key: str, window: Window) -> None:
        await self._ask("note", lambda: self._notes.hit(_item(window), key))

    async def full_for(self, key: str, window: Window) -> float | None:
        stats = await self._ask("full_for", lambda: self._notes.get_window_stats(_item(window), key))
        if stats is None or stats.remaining > 0:
            return None if stats is None else 0.0
        # In seconds since 1970, as the nodes have it: what was noted is as old as their clocks agree.
        return max(0.001, stats.reset_time - self._clock.now().timestamp())

    async def clear(self, key: str, window: Window) -> None:
        await self._ask("clear", lambda: self._notes.clear(_item(window), key))

    def announce(self, channel: str, text: str) -> None:
        if not self.up:
            return
        telling = self._ask("announce", lambda: self._client.publish(self._channel(channel), text))
        task = asyncio.get_running_loop().create_task(telling)
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    def listen(self, channel: str, heard: Heard) -> None:
        self._heard.setdefault(self._channel(channel), []).append(heard)

    async def _ask(self, what: str, command: Callable[[], Awaitable[T]]) -> T | None:
        if not self.up:
            return None
        try:
            with self._asking(what):
                async with asyncio.timeout(self._patience):
                    return await command()
        except Exception as exc:  # whatever is wrong with what nobody needs must not reach who asks
            self._down(exc)
            return None

    # whether it is there

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = self._clock.monotonic()
            try:
                await self._session()
            except Exception as exc:  # nothing ends this task but its node
                self._down(exc)
            steady = self._clock.monotonic() - began > STEADY_SECONDS
            pause = FIRST_PAUSE if steady else min(LAST_PAUSE, pause * 2)
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))

    async def _session(self) -> None:
        """Listens until Redis goes, or fails somebody who asks."""
        channels = {*self._heard, self._channel("nobody")}
        async with self._client.pubsub() as subscription:
            self._failed.clear()
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._client.ping()
                await subscription.subscribe(*channels)
                for _ in channels:  # each is confirmed: from then on nothing goes unheard
                    await subscription.get_message(timeout=None)
            self._back()
            while not self._failed.is_set():
                message = await subscription.get_message(timeout=LISTEN_SECONDS)
                if message is not None and message["type"] == "message":
                    self._tell(message)

    def _back(self) -> None:
        self.up, self._complained = True, False
        log.info("Redis answers: counters are shared")
        for listeners in self._heard.values():
            for heard in listeners:
                heard(None)

    def _tell(self, message: dict[str, Any]) -> None:
        text = message["data"].decode(errors="replace")
        for heard in self._heard.get(message["channel"].decode(errors="replace"), ()):
            heard(text)

    def _down(self, exc: BaseException) -> None:
        self._failed.set()
        self.up = False
        if not self._complained:
            self._complained = True
            log.warning("Redis does not answer, each node counts alone: %s: %s", type(exc).__name__, exc)

    def _channel(self, name: str) -> str:
        return f"{self._prefix}:{name}"


def _item(window: Window) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(window.limit, window.seconds)
