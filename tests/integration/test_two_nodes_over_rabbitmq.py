"""Two buses over RabbitMQ, and its faults."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kombu.connection import Connection

from mgmtnode.bus.amqp import AmqpTransport
from mgmtnode.bus.transport import address_of
from mgmtnode.ports import SystemRng
from mgmtnode.testing.servers import RabbitServer
from tests.integration.two_nodes import Answer, Ask, echo, eventually, run, two_nodes, vm

pytestmark = pytest.mark.integration


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
            while a.trouble is not None:  # a probe that went to the other reader is followed by the next one
                await a.probe()
                await asyncio.sleep(0.1)
            assert await a.call(Ask(vm_uuid=vm("b"), text="x")) == Answer(text="b:x")

    run(story)


class OnItsLoop:
    """A receiver that counts what comes, and what comes anywhere but on its loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.batches = self.elsewhere = 0

    def on_batch(self, batch: bytes) -> None:
        self.batches += 1
        try:
            self.elsewhere += asyncio.get_running_loop() is not self.loop
        except RuntimeError:
            self.elsewhere += 1

    def on_undeliverable(self, destination: str, batch: bytes) -> None:
        self.on_batch(batch)

    def on_reconnected(self) -> None: ...


def test_what_comes_while_a_connection_is_closed_comes_on_the_loop_too(rabbit_url: str) -> None:
    async def story() -> None:
        loud, leaving = (
            AmqpTransport(rabbit_url, address_of(name, SystemRng().bits(32)), rng=SystemRng())
            for name in ("loud", "leaving")
        )
        there, gone = OnItsLoop(), OnItsLoop()
        await loud.start(there)
        for _ in range(5):
            await leaving.start(gone)
            stopped = asyncio.create_task(leaving.stop())
            while not stopped.done():
                for n in range(100):
                    loud.send(leaving.address, [b'"%d"' % n])
                await asyncio.sleep(0)
            before = gone.batches
            leaving = AmqpTransport(rabbit_url, leaving.address, rng=SystemRng())
        await loud.stop()
        assert before and there.batches, "some were read, and some came back"
        assert (there.elsewhere, gone.elsewhere) == (0, 0)

    run(story)
