"""The event stream, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from mgmtnode.api import events as module

ONE, TWO = "0190cccc-0000-7000-8000-000000000001", "0190cccc-0000-7000-8000-000000000002"


class Reader:
    """Blocks of a stream: each a dict of its fields; comments under the empty name."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def block(self) -> dict[str, str]:
        found: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                return found
            name, _, value = line.partition(":")
            found[name] = value.strip()
        return {"end": "true"}

    async def event(self) -> tuple[str, str]:
        while True:
            block = await self.block()
            if "event" in block or "end" in block:
                return block.get("event", ""), block.get("id", "")


@asynccontextmanager
async def served(world: Any) -> AsyncIterator[str]:
    await world.api.start()
    try:
        yield f"http://127.0.0.1:{world.api.port}"
    finally:
        await world.api.stop(1)


@asynccontextmanager
async def stream(url: str, query: str = "", token: str = "admin", **headers: str) -> AsyncIterator[Reader]:
    headers |= {"authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=url) as client,
        client.stream("GET", f"/v1/events{query}", headers=headers) as answer,
    ):
        yield Reader(answer)


def test_a_stream_tells_its_position_and_then_what_happens(world, run) -> None:
    async def story() -> None:
        world.log.add("vm.created", ONE)
        async with served(world) as url, stream(url) as reader:
            assert reader.answer.headers["content-type"] == "text/event-stream"
            assert (await reader.block())["retry"] == "2000"
            assert (await reader.block())["id"] == "0-1"
            world.log.add("vm.started", ONE)
            assert await reader.event() == ("vm.started", "0-2")

    run(story())


def test_a_client_that_comes_back_misses_nothing(world, run) -> None:
    async def story() -> None:
        for n in range(500):
            world.log.add(f"vm.e{n}", ONE)
        async with served(world) as url, stream(url, **{"last-event-id": "0-100"}) as reader:
            names = [(await reader.event())[0] for _ in range(400)]
            assert names == [f"vm.e{n}" for n in range(100, 500)]

    run(story())


def test_filters_pass_over_events_but_the_position_moves_on(world, run, monkeypatch) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE", 0.05)

    async def story() -> None:
        async with served(world) as url, stream(url, f"?types=vm.*,host.connected&resource={ONE}") as reader:
            for name, resource in (("vm.a", ONE), ("zone.a", ONE), ("vm.b", TWO), ("host.connected", ONE)):
                world.log.add(name, resource)
            assert [await reader.event(), await reader.event()] == [
                ("vm.a", "0-1"),
                ("host.connected", "0-4"),
            ]
            world.log.add("zone.b", ONE)
            while "id" not in (block := await reader.block()):
                pass
            assert block == {"": "keep-alive", "id": "0-5"}

    run(story())


def test_a_tenant_sees_only_its_own(world, run) -> None:
    async def story() -> None:
        async with served(world) as url, stream(url, token="tenant") as reader:
            world.log.add("vm.secret", ONE, account="somebody")
            world.log.add("vm.mine", ONE)
            assert await reader.event() == ("vm.mine", "0-2")

    run(story())


@pytest.mark.parametrize("position", ["0-3", "0-99"])
def test_a_position_that_is_not_in_the_log_any_more_is_reset(world, run, position: str) -> None:
    async def story() -> None:
        for n in range(10):
            world.log.add(f"vm.e{n}", ONE)
        world.log.first = 5
        async with served(world) as url:
            async with stream(url, f"?after={position}") as reader:
                assert await reader.event() == ("reset", "0-10")
                world.log.add("vm.next", ONE)
                assert await reader.event() == ("vm.next", "0-11")
            async with stream(url, "?after=0-5") as reader:
                assert await reader.event() == ("vm.e5", "0-6")

    run(story())


@pytest.mark.parametrize("query", ["?after=x", "?resource=web", "?type=vm.*", "?after=0-1&after=0-2"])
def test_a_wrong_parameter_is_a_problem_and_no_stream(world, run, query: str) -> None:
    async def story() -> None:
        async with world.client() as client:
            assert (await client.get(f"/v1/events{query}")).status_code == 400
        assert world.api.events.streams == 0

    run(story())


def test_more_clients_than_the_limit_are_sent_elsewhere(world, run) -> None:
    async def story() -> None:
        world.api.events._most = 1
        async with served(world) as url, stream(url) as reader:
            await reader.block()
            async with stream(url) as second:
                assert (second.answer.status_code, second.answer.headers["retry-after"]) == (503, "5")

    run(story())


def test_a_client_that_leaves_is_forgotten(world, run) -> None:
    async def story() -> None:
        async with served(world) as url:
            async with stream(url) as reader:
                await reader.block()
                assert world.api.events.streams == 1
            while world.api.events.streams:
                await asyncio.sleep(0.001)

    run(story())


def test_a_token_that_ends_ends_its_stream(world, run, monkeypatch) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE", 0.01)
    monkeypatch.setattr(module, "RECHECK_SECONDS", 0.0)

    async def story() -> None:
        async with served(world) as url, stream(url, token="tenant") as reader:
            await reader.block()
            del world.identity.callers["tenant"]
            assert await reader.event() == ("", "")

    run(story())


def test_a_stopping_node_ends_its_streams_politely(world, run) -> None:
    async def story() -> None:
        async with served(world) as url, stream(url) as reader:
            await reader.block()
            await reader.block()
            world.api.drain()
            assert "the node stops" in (await reader.block())[""]
            assert await reader.block() == {"end": "true"}

    run(story())


def test_an_event_that_becomes_visible_late_is_not_left_until_the_next(world, run, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)

    async def story() -> None:
        hidden = True
        read = world.log.read

        async def late(after, limit, caller):
            return [] if hidden else await read(after, limit, caller)

        world.log.read = late
        async with served(world) as url, stream(url) as reader:
            await reader.block()
            world.log.add("vm.late", ONE)
            await asyncio.sleep(0.005)
            hidden = False
            assert await reader.event() == ("vm.late", "0-1")

    run(story())
