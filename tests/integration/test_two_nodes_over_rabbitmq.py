"""Two buses over a real broker, without a database: calls, errors, events, and the faults of the broker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from kombu.connection import Connection

from mgmtnode.bus.amqp import AmqpTransport
from mgmtnode.bus.bus import Bus
from mgmtnode.bus.message import Event, Internal, Route, by_resource, to_node
from mgmtnode.bus.transport import address_of
from mgmtnode.errors import TIMEOUT, UNAVAILABLE, ApiError, Category, ErrorCode
from mgmtnode.ports import SystemClock, SystemRng
from mgmtnode.ring.slots import SLOTS, SlotOwner, Slots, slot_of
from mgmtnode.schema import Data
from mgmtnode.testing.servers import RabbitServer

pytestmark = pytest.mark.integration

NOT_RUNNING = ErrorCode("vm.not-running", Category.STATE, "the VM does not run")
VM = "00000000-0000-7000-8000-000000000001"


class Answer(Data, kw_only=True):
    text: str


class Ask(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = by_resource("vm_uuid")

    vm_uuid: str
    text: str = ""


class AskNode(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = to_node("node")

    node: str


class Told(Event, frozen=True, kw_only=True):
    number: int


def vm(node: str) -> str:
    """The uuid of a VM of node a (even slots) or b (odd ones)."""
    uuids = (str(uuid.UUID(int=n)) for n in range(100))
    return next(u for u in uuids if "ab"[slot_of(u) % 2] == node)


def bus(name: str, url: str, incarnation: int, members: str = "ab") -> Bus:
    slots = Slots(name)
    nodes = dict.fromkeys(members, incarnation)
    slots.replace({slot: SlotOwner("ab"[slot % 2], 1) for slot in range(SLOTS)}, 1, nodes)
    transport = AmqpTransport(url, address_of(name, incarnation), rng=SystemRng())
    return Bus(name, slots, transport, clock=SystemClock(), rng=SystemRng())


@asynccontextmanager
async def two_nodes(
    url: str, handler: Callable[[str, Any], Awaitable[Answer]]
) -> AsyncIterator[tuple[Bus, Bus]]:
    incarnation = SystemRng().bits(32)
    buses = [bus(name, url, incarnation) for name in "ab"]
    for b in buses:
        for message_type in (Ask, AskNode):
            b.handle(message_type, lambda msg, name=b.name: handler(name, msg))
        await b.start()
    try:
        yield buses[0], buses[1]
    finally:
        for b in buses:
            await b.stop()


async def echo(node: str, msg: Any) -> Answer:
    return Answer(text=f"{node}:{getattr(msg, 'text', '')}")


def run(story: Callable[[], Awaitable[None]], seconds: float = 90) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await story()

    asyncio.run(limited())


async def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def test_calls_go_both_ways_with_their_errors(rabbit_url: str) -> None:
    async def answer(node: str, msg: Any) -> Answer:
        if getattr(msg, "text", "") == "fail":
            raise NOT_RUNNING.error("stopped", resource=VM, host="h1")
        return await echo(node, msg)

    async def story() -> None:
        async with two_nodes(rabbit_url, answer) as (a, b):
            assert a.transport.healthy and b.transport.healthy
            assert (await a.call(Ask(vm_uuid=vm("b"), text="x ü 端"))).text == "b:x ü 端"
            assert (await b.call(Ask(vm_uuid=vm("a"), text="y"))).text == "a:y"
            assert (await a.call(AskNode(node="b"))).text == "b:"
            with pytest.raises(ApiError) as caught:
                await a.call(Ask(vm_uuid=vm("b"), text="fail"))
            assert caught.value.code == NOT_RUNNING.id and caught.value.problem.details == {"host": "h1"}

    run(story)


def test_a_thousand_calls_are_answered_each_with_its_own_answer(rabbit_url: str) -> None:
    async def story() -> None:
        async with two_nodes(rabbit_url, echo) as (a, _):
            msgs = [Ask(vm_uuid=vm("b"), text=f"{n} {'x' * 2000}") for n in range(1000)]
            answers = await a.call_many(msgs, parallel=500)
            assert [r.text for r in answers if isinstance(r, Answer)] == [f"b:{m.text}" for m in msgs]

    run(story)


def test_a_deadline_holds_over_the_broker(rabbit_url: str) -> None:
    cancelled = []

    async def endless(node: str, msg: Any) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(node)
        raise AssertionError

    async def story() -> None:
        async with two_nodes(rabbit_url, endless) as (a, _):
            with pytest.raises(ApiError) as caught:
                await a.call(Ask(vm_uuid=vm("b")), timeout=0.2)
            assert caught.value.code == TIMEOUT.id
            await eventually(lambda: cancelled == ["b"])

    run(story)


def test_events_are_heard_by_all_nodes_once_and_in_order(rabbit_url: str) -> None:
    async def story() -> None:
        async with two_nodes(rabbit_url, echo) as (a, b):
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


def test_hints_and_sends_arrive(rabbit_url: str) -> None:
    heard: list[object] = []

    async def hear(node: str, msg: Any) -> Answer:
        heard.append((node, msg.text))
        return Answer(text="")

    async def story() -> None:
        async with two_nodes(rabbit_url, hear) as (a, b):
            b.on_hint(lambda seq, job, resource: heard.append((seq, job, resource)))
            a.hint(7, "job-1", vm("b"))
            a.send(Ask(vm_uuid=vm("b"), text="sent"))
            await eventually(lambda: len(heard) == 2)
            assert set(heard) == {(7, "job-1", vm("b")), ("b", "sent")}

    run(story)


def test_a_message_to_a_node_that_is_not_there_is_reported_at_once(rabbit_url: str) -> None:
    async def story() -> None:
        async with two_nodes(rabbit_url, echo) as (a, b):
            await b.stop()
            with pytest.raises(ApiError) as caught:
                await a.call(AskNode(node="b"), timeout=30)
            assert caught.value.code == UNAVAILABLE.id

    run(story, seconds=20)


def test_a_call_to_an_owner_that_left_goes_to_the_new_one(rabbit_url: str) -> None:
    async def story() -> None:
        async with two_nodes(rabbit_url, echo) as (a, b):
            await b.stop()
            call = asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text="x")))
            await eventually(lambda: a.snapshot()["counts"].get("returned", 0) >= 1)
            assert not call.done()
            a.slots.replace(dict.fromkeys(range(SLOTS), SlotOwner("a", 2)), 2)
            assert (await call).text == "a:x"

    run(story, seconds=20)


def test_what_is_no_json_does_no_harm(rabbit_url: str) -> None:
    async def story() -> None:
        async with two_nodes(rabbit_url, echo) as (a, b):
            a.transport.send(b.transport.address, [b"no json", b"{}"])
            await eventually(lambda: b.snapshot()["counts"].get("undecodable", 0) >= 1)
            assert (await a.call(Ask(vm_uuid=vm("b")))).text == "b:"

    run(story)


def test_a_restart_of_the_broker_loses_no_call_and_needs_no_restart_of_the_nodes(
    rabbit_server: RabbitServer, rabbit_url: str
) -> None:
    runs: list[str] = []

    async def answer(node: str, msg: Any) -> Answer:
        runs.append(msg.text)
        await asyncio.sleep(0.5 if msg.text == "before" else 0)
        return await echo(node, msg)

    async def story() -> None:
        async with two_nodes(rabbit_url, answer) as (a, b):
            before = asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text="before")))
            await eventually(lambda: runs == ["before"])
            restart = asyncio.create_task(asyncio.to_thread(rabbit_server.restart, "kill"))
            await eventually(lambda: not a.transport.healthy and not b.transport.healthy)
            during = asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text="during")))
            assert (await a.call(Ask(vm_uuid=vm("a"), text="own"))).text == "a:own"
            await restart
            assert (await before).text == "b:before" and (await during).text == "b:during"
            assert (await b.call(Ask(vm_uuid=vm("a"), text="after"))).text == "a:after"
            assert sorted(runs) == ["after", "before", "during", "own"]

    run(story)


def test_while_the_broker_is_short_of_memory_calls_wait_and_none_is_lost(
    rabbit_server: RabbitServer, rabbit_url: str
) -> None:
    alarm = "{resource_limit, memory, node()}"

    async def story() -> None:
        async with two_nodes(rabbit_url, echo) as (a, _):
            await asyncio.to_thread(rabbit_server.eval, f"rabbit_alarm:set_alarm({{{alarm}, []}}).")
            try:
                calls = [asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text=str(n)))) for n in range(500)]
                await eventually(lambda: not a.transport.healthy)
                calls += [asyncio.create_task(a.call(Ask(vm_uuid=vm("b"), text="late"))) for _ in range(5)]
                assert (await a.call(Ask(vm_uuid=vm("a")))).text == "a:"
                assert not any(call.done() for call in calls)
            finally:
                await asyncio.to_thread(rabbit_server.eval, f"rabbit_alarm:clear_alarm({alarm}).")
            answers = await asyncio.gather(*calls)
            assert [r.text for r in answers] == [f"b:{n}" for n in range(500)] + ["b:late"] * 5
            await eventually(lambda: a.transport.healthy)

    run(story)


def test_a_node_starts_and_works_on_its_own_slots_without_a_broker() -> None:
    async def story() -> None:
        node = bus("a", "amqp://guest:guest@127.0.0.1:1//", 1)
        node.handle(Ask, lambda msg: echo("a", msg))
        await node.start()
        assert not node.transport.healthy
        assert (await node.call(Ask(vm_uuid=vm("a")))).text == "a:"
        with pytest.raises(ApiError) as caught:
            await node.call(Ask(vm_uuid=vm("b")), timeout=0.1)
        assert caught.value.category in (Category.TIMEOUT, Category.UNAVAILABLE)
        await node.stop()

    run(story, seconds=30)


def test_a_consumer_that_went_silent_is_noticed_and_connected_anew(rabbit_url: str) -> None:
    """Somebody else reads the node's queue, so that everything looks well and nothing arrives."""

    async def story() -> None:
        async with two_nodes(rabbit_url, echo) as (a, _):
            transport = a.transport
            assert isinstance(transport, AmqpTransport)
            await eventually(lambda: transport.healthy)
            before = transport.connections
            with Connection(rabbit_url) as connection, connection.channel() as channel:
                channel.basic_consume(
                    transport.address, no_ack=True, callback=lambda m: None, arguments={"x-priority": 9999}
                )
                until = asyncio.get_running_loop().time() + 30
                while not a.counts["silences"]:
                    assert asyncio.get_running_loop().time() < until
                    await a.probe()
                    await asyncio.sleep(0.5)
                assert a.trouble is not None
            await eventually(lambda: transport.connections > before and transport.healthy)
            await a.probe()
            await eventually(lambda: a.trouble is None)
            assert await a.call(Ask(vm_uuid=vm("b"), text="x")) == Answer(text="b:x")

    run(story)
