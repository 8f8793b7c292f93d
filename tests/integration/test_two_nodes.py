"""Two buses over a real broker of each kind: calls, errors, events, nodes that left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mgmtnode.errors import TIMEOUT, UNAVAILABLE, ApiError, Category
from mgmtnode.ring.slots import SLOTS, SlotOwner
from mgmtnode.testing.servers import RedisServer
from tests.integration.two_nodes import (
    NOT_RUNNING,
    VM,
    Answer,
    Ask,
    AskNode,
    Told,
    bus,
    echo,
    eventually,
    run,
    two_nodes,
    vm,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture(params=["rabbit_url", "redis_url"])
def broker_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_calls_go_both_ways_with_their_errors(broker_url: str) -> None:
    async def answer(node: str, msg: Any) -> Answer:
        if getattr(msg, "text", "") == "fail":
            raise NOT_RUNNING.error("stopped", resource=VM, host="h1")
        return await echo(node, msg)

    async def story() -> None:
        async with two_nodes(broker_url, answer) as (a, b):
            assert a.transport.healthy and b.transport.healthy
            assert (await a.call(Ask(vm_uuid=vm("b"), text="x ü 端"))).text == "b:x ü 端"
            assert (await b.call(Ask(vm_uuid=vm("a"), text="y"))).text == "a:y"
            assert (await a.call(AskNode(node="b"))).text == "b:"
            with pytest.raises(ApiError) as caught:
                await a.call(Ask(vm_uuid=vm("b"), text="fail"))
            assert caught.value.code == NOT_RUNNING.id and caught.value.problem.details == {"host": "h1"}

    run(story)


def test_a_thousand_calls_are_answered_each_with_its_own_answer(broker_url: str) -> None:
    async def story() -> None:
        async with two_nodes(broker_url, echo) as (a, _):
            msgs = [Ask(vm_uuid=vm("b"), text=f"{n} {'x' * 2000}") for n in range(1000)]
            answers = await a.call_many(msgs, parallel=500)
            assert [r.text for r in answers if isinstance(r, Answer)] == [f"b:{m.text}" for m in msgs]

    run(story)


def test_a_deadline_holds_over_the_broker(broker_url: str) -> None:
    cancelled = []

    async def endless(node: str, msg: Any) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(node)
        raise AssertionError

    async def story() -> None:
        async with two_nodes(broker_url, endless) as (a, _):
            with pytest.raises(ApiError) as caught:
                await a.call(Ask(vm_uuid=vm("b")), timeout=0.2)
            assert caught.value.code == TIMEOUT.id
            await eventually(lambda: cancelled == ["b"])

    run(story)


def test_events_are_heard_by_all_nodes_once_and_in_order(broker_url: str) -> None:
    async def story() -> None:
        async with two_nodes(broker_url, echo) as (a, b):
            heard: dict[str, list[int]] = {"a": [], "b": []}
            for node in (a, b):

                async def hear(event: Told, name: str = node.name) -> None:
                    heard[name].append(event.number)

                node.subscribe(Told, hear)
            for number in range(200):
                a.publish(Told(resource_uuid=VM, number=number))
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await eventually(lambda: len(heard["b"]) >= 200)
            await a.call(Ask(vm_uuid=vm("b")))  # whatever else there was has come by now
            assert heard == {"a": list(range(200)), "b": list(range(200))}

    run(story)


def test_hints_and_sends_arrive(broker_url: str) -> None:
    heard: list[object] = []

    async def hear(node: str, msg: Any) -> Answer:
        heard.append((node, msg.text))
        return Answer(text="")

    async def story() -> None:
        async with two_nodes(broker_url, hear) as (a, b):
            b.on_hint(lambda seq, job, resource: heard.append((seq, job, resource)))
            a.hint(7, "job-1", vm("b"))
            a.send(Ask(vm_uuid=vm("b"), text="sent"))
            await eventually(lambda: len(heard) == 2)
            assert set(heard) == {(7, "job-1", vm("b")), ("b", "sent")}

    run(story)


def test_a_message_to_a_node_that_is_not_there_is_reported_at_once(broker_url: str) -> None:
    async def story() -> None:
        async with two_nodes(broker_url, echo) as (a, b):
            await b.stop()
            with pytest.raises(ApiError) as caught:
                await a.call(AskNode(node="b"), timeout=30)
            assert caught.value.code == UNAVAILABLE.id

    run(story, seconds=20)


def test_a_call_to_an_owner_that_left_goes_to_the_new_one(broker_url: str) -> None:
    async def story() -> None:
        async with two_nodes(broker_url, echo) as (a, b):
            await b.stop()
            call = asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text="x")))
            await eventually(lambda: a.snapshot()["counts"].get("returned", 0) >= 1)
            assert not call.done()
            a.slots.replace(dict.fromkeys(range(SLOTS), SlotOwner("a", 2)), 2)
            assert (await call).text == "a:x"

    run(story, seconds=20)


def test_what_is_no_json_does_no_harm(broker_url: str) -> None:
    async def story() -> None:
        async with two_nodes(broker_url, echo) as (a, b):
            a.transport.send(b.transport.address, [b"no json", b"{}"])
            await eventually(lambda: b.snapshot()["counts"].get("undecodable", 0) >= 1)
            assert (await a.call(Ask(vm_uuid=vm("b")))).text == "b:"

    run(story)


@pytest.mark.parametrize("url", ["amqp://guest:guest@127.0.0.1:1//", "redis://127.0.0.1:1/0"])
def test_a_node_starts_and_works_on_its_own_slots_without_a_broker(url: str) -> None:
    async def story() -> None:
        node = bus("a", url, 1)
        node.handle(Ask, lambda msg: echo("a", msg))
        await node.start()
        assert not node.transport.healthy
        assert (await node.call(Ask(vm_uuid=vm("a")))).text == "a:"
        with pytest.raises(ApiError) as caught:
            await node.call(Ask(vm_uuid=vm("b")), timeout=0.1)
        assert caught.value.category in (Category.TIMEOUT, Category.UNAVAILABLE)
        await node.stop()

    run(story, seconds=30)
