from __future__ import annotations

import asyncio

import pytest

from mgmtnode.bus import bus as bus_module
from mgmtnode.bus import calls, inbox
from mgmtnode.bus.inbox import Answered
from mgmtnode.bus.memory import MemoryTransport
from mgmtnode.errors import OVERLOADED, ApiError
from tests.bus.nodes import Ask, Nodes, slow, vm
from tests.virtual_time import run


def refused(results: list[object]) -> int:
    return sum(isinstance(r, ApiError) and r.code == OVERLOADED.id for r in results)


def test_a_caller_with_too_many_pending_calls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_PENDING", 5)

    async def story() -> None:
        nodes = Nodes("ab")
        nodes.handle(Ask, slow(1))
        async with nodes:
            msgs = [Ask(vm_uuid=vm("b"))] * 8
            assert refused(list(await nodes["a"].call_many(msgs, parallel=8))) == 3

    run(story)


def test_a_node_that_serves_too_many_calls_refuses_more_and_would_take_them_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox, "MAX_SERVING", 5)

    async def story() -> None:
        nodes = Nodes("ab")
        nodes.handle(Ask, slow(1))
        async with nodes:
            msgs = [Ask(vm_uuid=vm("b"))] * 8
            assert refused(list(await nodes["a"].call_many(msgs, parallel=8))) == 3
            assert refused(list(await nodes["a"].call_many(msgs[:5], parallel=8))) == 0

    run(story)


def test_too_many_sent_messages_at_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "MAX_SENDS", 2)

    async def story() -> None:
        nodes = Nodes("a")
        nodes.handle(Ask, slow(1))
        async with nodes:
            for _ in range(2):
                nodes["a"].send(Ask(vm_uuid="x"))
            with pytest.raises(ApiError):
                nodes["a"].send(Ask(vm_uuid="x"))
            await asyncio.sleep(2)
            nodes["a"].send(Ask(vm_uuid="x"))

    run(story)


def test_a_full_transport_refuses_calls_at_once_and_events_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemoryTransport, "overloaded", True)

    async def story() -> None:
        async with Nodes("ab") as nodes:
            with pytest.raises(ApiError) as caught:
                await nodes["a"].call(Ask(vm_uuid=vm("b")))
            assert caught.value.code == OVERLOADED.id and not nodes["a"].snapshot()["pending"]
            nodes["a"].hint(1, "job-1", vm("b"))
            assert nodes["a"].snapshot()["counts"] == {"hints_unsent": 1, "late_replies": 0}

    run(story)


def test_remembered_replies_are_bounded_in_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_REMEMBERED", 3)
    monkeypatch.setattr(inbox, "MAX_REMEMBERED_BYTES", 100)
    answered = Answered()
    for n in range(4):
        answered.begin(f"small-{n}")
        answered.end(f"small-{n}", b"x")
    assert answered.reply("small-0") == b"" and answered.reply("small-1") == b"x"
    assert "running" not in answered
    answered.begin("running")
    assert "running" in answered
    answered.begin("large")
    answered.end("large", b"x" * 100)
    assert answered.reply("small-3") == b"" and answered.reply("large") == b"x" * 100
    assert "running" in answered
