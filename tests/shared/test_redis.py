"""Counters and announcements over a real Redis, which is killed, stopped and started again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from mgmtnode.ports import SystemClock, SystemRng
from mgmtnode.shared.choice import BadRedisUrl, check_url, shared_over
from mgmtnode.shared.port import Alone, Window
from mgmtnode.shared.redis import RedisShared
from mgmtnode.telemetry.telemetry import Telemetry
from mgmtnode.testing.servers import RedisServer
from services.identity.throttle import ClusterThrottle, NodeThrottle

pytestmark = pytest.mark.integration
SECONDS = 30.0


@pytest.fixture
def redis():
    with RedisServer() as server:
        yield server


def a_node(url: str, cluster: str = "c1", patience: float = SECONDS) -> RedisShared:
    """With more patience than nodes have: a test must not fail because the machine is busy."""
    return RedisShared(
        url, cluster, clock=SystemClock(), rng=SystemRng(), telemetry=Telemetry(), patience=patience
    )


@asynccontextmanager
async def running(*nodes: RedisShared) -> AsyncIterator[None]:
    for node in nodes:
        await node.start()
    try:
        yield
    finally:
        for node in nodes:
            await node.stop()


def asked(telemetry: Telemetry) -> float:
    """How many commands Redis was sent, to count or to look."""
    lines = telemetry.metrics.text().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if "_redis_seconds_count" in line)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def test_nodes_count_together_and_clusters_apart(redis: RedisServer) -> None:
    async def story() -> None:
        a, b, other = a_node(redis.url), a_node(redis.url), a_node(redis.url, "c2")
        async with running(a, b, other):
            await until(lambda: a.up and b.up and other.up)
            window = Window(3, 3600)
            assert [await node.take("k", window) for node in (a, b, a, b)] == [True, True, True, False]
            assert await other.take("k", window) is True
            assert await a.take("another", window) is True

    asyncio.run(story())


def test_what_is_noted_is_full_for_as_long_as_it_is_and_can_be_cleared(redis: RedisServer) -> None:
    async def story() -> None:
        a, b = a_node(redis.url), a_node(redis.url)
        async with running(a, b):
            await until(lambda: a.up and b.up)
            window = Window(2, 3600)
            assert await b.full_for("k", window) == 0.0
            await a.note("k", window)
            assert await b.full_for("k", window) == 0.0
            await b.note("k", window)
            left = await a.full_for("k", window)
            assert left is not None
            assert 3500 < left <= 3601
            await a.clear("k", window)
            assert await b.full_for("k", window) == 0.0

    asyncio.run(story())


def test_an_announcement_reaches_every_node_and_the_first_word_is_that_some_were_missed(
    redis: RedisServer,
) -> None:
    async def story() -> None:
        a, b = a_node(redis.url), a_node(redis.url)
        heard: dict[str, list[str | None]] = {"a": [], "b": []}
        a.listen("tokens", heard["a"].append)
        b.listen("tokens", heard["b"].append)
        async with running(a, b):
            await until(lambda: a.up and b.up)
            a.announce("tokens", "account-1")
            a.announce("other", "account-2")
            await until(lambda: len(heard["a"]) == len(heard["b"]) == 2)
        assert heard == {"a": [None, "account-1"], "b": [None, "account-1"]}

    asyncio.run(story())


def test_a_redis_that_was_killed_is_asked_no_more_until_it_is_back(redis: RedisServer) -> None:
    async def story() -> None:
        node = a_node(redis.url)
        heard: list[str | None] = []
        node.listen("tokens", heard.append)
        async with running(node):
            await until(lambda: node.up)
            redis.halt("kill")
            await until(lambda: not node.up)
            assert await node.take("k", Window(1, 60)) is None
            assert await node.full_for("k", Window(1, 60)) is None
            await node.note("k", Window(1, 60))
            node.announce("tokens", "lost")
            redis.revive()
            await until(lambda: node.up)
            assert await node.take("k", Window(1, 60)) is True
            assert heard == [None, None]

    asyncio.run(story())


def test_a_redis_that_stands_still_is_given_up_and_not_asked_again(redis: RedisServer) -> None:
    async def story() -> None:
        telemetry = Telemetry()
        node = RedisShared(
            redis.url, "c1", clock=SystemClock(), rng=SystemRng(), telemetry=telemetry, patience=0.2
        )
        async with running(node):
            await until(lambda: node.up)
            assert redis.pid is not None
            os.kill(redis.pid, signal.SIGSTOP)
            try:
                answers = await asyncio.gather(*(node.take("k", Window(9, 60)) for _ in range(20)))
                assert answers == [None] * 20
                assert not node.up
                before = asked(telemetry)
                assert await node.take("k", Window(9, 60)) is None
                assert asked(telemetry) == before == 20
            finally:
                os.kill(redis.pid, signal.SIGCONT)
            await until(lambda: node.up)

    asyncio.run(story())


def test_a_node_has_little_patience_and_needs_no_redis_without_an_address() -> None:
    own = {"clock": SystemClock(), "rng": SystemRng(), "telemetry": Telemetry()}
    shared = shared_over("redis://127.0.0.1:9/0", "c1", **own)
    assert isinstance(shared, RedisShared)
    assert shared._patience == 0.05
    assert isinstance(shared_over("", "c1", **own), Alone)


def test_no_redis_at_boot_is_no_reason_to_wait() -> None:
    async def story() -> None:
        node = a_node("redis://127.0.0.1:9/0")
        async with running(node):
            assert await node.take("k", Window(1, 60)) is None

    asyncio.run(story())


def test_failed_logins_on_one_node_lock_the_name_on_the_other(redis: RedisServer) -> None:
    async def story() -> None:
        nodes = [a_node(redis.url), a_node(redis.url)]
        limits = (lambda: 3), (lambda: 3600)
        a, b = (ClusterThrottle(node, NodeThrottle(SystemClock(), *limits), *limits) for node in nodes)
        async with running(*nodes):
            await until(lambda: all(node.up for node in nodes))
            for _ in range(2):
                await a.failed("acme/\ud800")
            await b.check("acme/\ud800")
            await b.failed("acme/\ud800")
            for throttle in (a, b):
                with pytest.raises(Exception, match=r"session\.login-locked"):
                    await throttle.check("acme/\ud800")
            await a.check("other/")
            await b.succeeded("acme/\ud800")
            await b.check("acme/\ud800")

    asyncio.run(story())


def test_a_node_alone_still_locks_a_name() -> None:
    async def story() -> None:
        limits = (lambda: 2), (lambda: 3600)
        throttle = ClusterThrottle(Alone(), NodeThrottle(SystemClock(), *limits), *limits)
        for _ in range(2):
            await throttle.failed("acme/")
        with pytest.raises(Exception, match=r"session\.login-locked"):
            await throttle.check("acme/")

    asyncio.run(story())


@pytest.mark.parametrize("wrong", ["localhost:6379", "http://h", "amqp://h", "/var/run/redis.sock"])
def test_an_address_that_is_none_is_refused_with_what_it_should_be(wrong: str) -> None:
    with pytest.raises(BadRedisUrl, match=r"redis://HOST:6379/0"):
        check_url(wrong)
