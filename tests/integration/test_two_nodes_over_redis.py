"""Two buses over Redis, and its faults."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from mgmtnode.bus.redis import RedisTransport
from mgmtnode.ports import SystemClock, SystemRng
from mgmtnode.testing.servers import RedisServer
from tests.integration.two_nodes import Answer, Ask, echo, eventually, run, two_nodes, vm

pytestmark = pytest.mark.integration


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_a_restart_of_redis_loses_no_call_and_needs_no_restart_of_the_nodes(redis: RedisServer) -> None:
    runs: list[str] = []

    async def answer(node: str, msg: Any) -> Answer:
        runs.append(msg.text)
        await asyncio.sleep(0.5 if msg.text == "before" else 0)
        return await echo(node, msg)

    async def story() -> None:
        async with two_nodes(redis.url, answer) as (a, b):
            before = asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text="before")))
            await eventually(lambda: runs == ["before"])
            redis.halt("kill")
            await eventually(lambda: not a.transport.healthy and not b.transport.healthy)
            during = asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text="during")))
            assert (await a.call(Ask(vm_uuid=vm("a"), text="own"))).text == "a:own"
            await asyncio.to_thread(redis.revive)
            assert (await before).text == "b:before" and (await during).text == "b:during"
            assert (await b.call(Ask(vm_uuid=vm("a"), text="after"))).text == "a:after"
            assert sorted(runs) == ["after", "before", "during", "own"]
            assert a.transport.traffic.reconnects >= 1

    run(story)


def test_a_redis_that_stands_still_is_noticed_and_nothing_is_lost_when_it_goes_on(redis: RedisServer) -> None:
    async def story() -> None:
        async with two_nodes(redis.url, echo) as (a, b):
            assert redis.pid is not None
            os.kill(redis.pid, signal.SIGSTOP)
            try:
                calls = [asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text=str(n)))) for n in range(50)]
                await eventually(lambda: not a.transport.healthy, 60)
            finally:
                os.kill(redis.pid, signal.SIGCONT)
            assert [answer.text for answer in await asyncio.gather(*calls)] == [f"b:{n}" for n in range(50)]
            await eventually(lambda: a.transport.healthy and b.transport.healthy)

    run(story, 150)


def test_connections_that_are_made_anew_on_request_carry_on(redis: RedisServer) -> None:
    async def story() -> None:
        async with two_nodes(redis.url, echo) as (a, b):
            for node in (a, b, a):
                before = node.transport.traffic.reconnects
                node.transport.renew()
                await eventually(lambda node=node, n=before: node.transport.traffic.reconnects > n)
                assert (await a.call(Ask(vm_uuid=vm("b"), text="x"))).text == "b:x"

    run(story)


def test_clusters_on_other_databases_of_one_redis_do_not_hear_each_other(redis: RedisServer) -> None:
    async def story() -> None:
        one = RedisTransport(redis.url, "a", clock=SystemClock(), rng=SystemRng())
        other = RedisTransport(redis.url[:-1] + "1", "a", clock=SystemClock(), rng=SystemRng())
        heard: dict[str, list[bytes]] = {"one": [], "other": []}
        await one.start(_Ear(heard["one"]))
        await other.start(_Ear(heard["other"]))
        other.publish([b"1"])
        other.send("a", [b"2"])
        one.send("b", [b"3"])
        await eventually(lambda: len(heard["other"]) == 2 and len(heard["one"]) == 1)
        assert heard == {"one": [b"b: [3]"], "other": [b"[1]", b"[2]"]}
        await one.stop()
        await other.stop()

    run(story)


class _Ear:
    """Hears batches, and those that came back with where they were to go."""

    def __init__(self, heard: list[bytes]) -> None:
        self._heard = heard

    def on_batch(self, batch: bytes) -> None:
        self._heard.append(batch)

    def on_undeliverable(self, destination: str, batch: bytes) -> None:
        self._heard.append(f"{destination}: ".encode() + batch)

    def on_reconnected(self) -> None:
        """Nothing to send again."""
