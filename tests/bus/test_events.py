from __future__ import annotations

import asyncio
import logging

import pytest

from mgmtnode.bus.context import EMPTY, CallContext, current
from mgmtnode.bus.memory import Hub
from mgmtnode.bus.message import Event
from mgmtnode.bus.subscriptions import MAX_WAITING
from mgmtnode.errors import DATABASE_DOWN
from tests.bus.nodes import Nodes, VmEvent, VmStarted, VmStopped
from tests.virtual_time import run

VM = "00000000-0000-7000-8000-000000000001"


def listening(nodes: Nodes, event_type: type[Event], *, on: str) -> list[tuple[str, Event]]:
    heard: list[tuple[str, Event]] = []
    for name in on:

        async def hear(event: Event, name: str = name) -> None:
            heard.append((name, event))

        nodes[name].subscribe(event_type, hear)
    return heard


def test_an_event_is_heard_on_every_node_once() -> None:
    async def story() -> None:
        nodes = Nodes("abc")
        heard = listening(nodes, VmStarted, on="abc")
        async with nodes:
            event = VmStarted(resource_uuid=VM, number=4)
            nodes["b"].publish(event)
            await asyncio.sleep(1)
            assert sorted(heard, key=lambda h: h[0]) == [("a", event), ("b", event), ("c", event)]
            assert heard[0][0] == "b"

    run(story)


def test_a_subscriber_hears_its_own_type_only() -> None:
    async def story() -> None:
        nodes = Nodes("ab")
        heard = listening(nodes, VmStopped, on="ab")
        async with nodes:
            nodes["a"].publish(VmStarted(resource_uuid=VM))
            nodes["a"].publish(VmStopped(resource_uuid=VM))
            await asyncio.sleep(1)
            assert [type(e) for _, e in heard] == [VmStopped, VmStopped]

    run(story)


def test_a_subscriber_to_a_base_class_hears_all_declared_events() -> None:
    async def story() -> None:
        nodes = Nodes("ab")
        heard = listening(nodes, VmEvent, on="b")
        nodes["b"].declare([VmStarted])
        async with nodes:
            nodes["a"].publish(VmStarted(resource_uuid=VM))
            nodes["a"].publish(VmStopped(resource_uuid=VM))  # b has never heard of this type
            await asyncio.sleep(1)
            assert [type(e) for _, e in heard] == [VmStarted]

    run(story)


def test_events_of_one_resource_stay_in_order_and_do_not_hold_up_those_of_others() -> None:
    async def story() -> None:
        nodes, heard = Nodes("a"), []

        async def hear(event: VmStarted) -> None:
            await asyncio.sleep(10 - event.number)
            heard.append((event.resource_uuid, event.number))

        nodes["a"].subscribe(VmStarted, hear)
        async with nodes:
            for number in range(5):
                nodes["a"].publish(VmStarted(resource_uuid="slow", number=number))
            nodes["a"].publish(VmStarted(resource_uuid="quick", number=9))
            await asyncio.sleep(100)
        assert heard == [("quick", 9), *(("slow", n) for n in range(5))]

    run(story)


def test_a_failing_subscriber_is_logged_and_hears_the_next_event(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        nodes, heard = Nodes("a"), []

        async def fail(event: VmStarted) -> None:
            heard.append(event.number)
            raise KeyError("gone")

        nodes["a"].subscribe(VmStarted, fail)
        async with nodes:
            for number in range(2):
                nodes["a"].publish(VmStarted(resource_uuid=VM, number=number))
            await asyncio.sleep(1)
            (state,) = nodes["a"].snapshot()["subscriptions"]
            assert heard == [0, 1] and state["failed"] == 2 and state["waiting"] == 0

    with caplog.at_level(logging.ERROR):
        run(story)
    assert "KeyError" in caplog.text


def test_a_subscriber_that_fails_of_an_outage_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        nodes = Nodes("a")

        async def fail(event: VmStarted) -> None:
            raise DATABASE_DOWN.error("the database is away")

        nodes["a"].subscribe(VmStarted, fail)
        async with nodes:
            nodes["a"].publish(VmStarted(resource_uuid=VM))
            await asyncio.sleep(1)
            (state,) = nodes["a"].snapshot()["subscriptions"]
            assert state["failed"] == 1

    with caplog.at_level(logging.WARNING):
        run(story)
    [record] = caplog.records
    assert (
        record.levelname == "WARNING" and record.exc_info is None and "the database is away" in record.message
    )


def test_a_subscriber_that_does_not_keep_up_loses_events_instead_of_memory() -> None:
    async def story() -> None:
        nodes = Nodes("a")

        async def stuck(event: VmStarted) -> None:
            await asyncio.Event().wait()

        nodes["a"].subscribe(VmStarted, stuck)
        async with nodes:
            for number in range(MAX_WAITING + 10):
                nodes["a"].publish(VmStarted(resource_uuid=VM, number=number))
            (state,) = nodes["a"].snapshot()["subscriptions"]
            assert state["waiting"] == MAX_WAITING and state["lost"] == 10

    run(story)


def test_a_subscriber_does_not_inherit_the_deadline_of_the_publisher() -> None:
    async def story() -> None:
        nodes, seen = Nodes("a"), []

        async def look(event: VmStarted) -> None:
            seen.append(current.get())

        nodes["a"].subscribe(VmStarted, look)
        async with nodes:
            current.set(CallContext(deadline=1.0, chain=("vm:1",)))
            nodes["a"].publish(VmStarted(resource_uuid=VM))
            await asyncio.sleep(1)
        assert seen == [EMPTY]

    run(story)


def test_publishing_never_raises_also_when_the_event_is_too_large_to_leave() -> None:
    async def story() -> None:
        class Long(Event, frozen=True, kw_only=True):
            text: str

        nodes = Nodes("ab")
        heard = listening(nodes, Long, on="ab")
        async with nodes:
            nodes["a"].publish(Long(resource_uuid=VM, text="x" * 70_000))
            await asyncio.sleep(1)
            assert [name for name, _ in heard] == ["a"]
            assert nodes["a"].snapshot()["counts"]["events_unsent"] == 1

    run(story)


def test_ones_own_event_that_a_broker_hands_back_is_not_heard_twice() -> None:
    async def story() -> None:
        hub = Hub()
        nodes = Nodes("a", hub)
        sent: list[bytes] = []
        nodes["a"].transport.publish = lambda envelopes: sent.extend(envelopes)  # type: ignore[method-assign]
        heard = listening(nodes, VmStarted, on="a")
        async with nodes:
            nodes["a"].publish(VmStarted(resource_uuid=VM))
            await asyncio.sleep(1)
            nodes["a"].on_batch(b"[" + sent[0] + b"]")
            await asyncio.sleep(1)
            assert len(heard) == 1

    run(story)


def test_that_another_node_tells_of_something_is_heard_without_knowing_what() -> None:
    async def story() -> None:
        nodes = Nodes("ab")
        woken: list[str] = []
        for name in "ab":
            nodes[name].on_remote_event(lambda name=name: woken.append(name))  # type: ignore[misc]
        async with nodes:
            nodes["b"].publish(VmStarted(resource_uuid=VM))
            await asyncio.sleep(1)
            assert woken == ["a"]

    run(story)


def test_a_listener_is_told_as_the_event_comes_and_its_failure_is_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        nodes, heard = Nodes("ab"), list[tuple[str, int]]()

        def fail(event: VmStarted) -> None:
            raise KeyError("gone")

        for name in "ab":
            nodes[name].listen(VmStarted, fail)
            nodes[name].listen(VmStarted, lambda event, name=name: heard.append((name, event.number)))  # type: ignore[misc]
        async with nodes:
            nodes["a"].publish(VmStarted(resource_uuid=VM, number=1))
            assert heard == [("a", 1)]
            await asyncio.sleep(1)
            assert heard == [("a", 1), ("b", 1)]
            failed = [state["failed"] for state in nodes["a"].snapshot()["subscriptions"]]
            assert failed == [1, 0]

    with caplog.at_level(logging.ERROR):
        run(story)
    assert "KeyError" in caplog.text
