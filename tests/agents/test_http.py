"""Agents over HTTP: the same promises as in one process, over a line that breaks."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.agents import http
from mgmtnode.agents.commands import order
from mgmtnode.agents.http import HttpAgents
from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.port import (
    FAILED,
    FOREIGN,
    OLD,
    STALE,
    TIMEOUT,
    UNKNOWN,
    UNREACHABLE,
    CommandResult,
    CommandState,
)
from mgmtnode.bus.context import CallContext, current
from mgmtnode.errors import INTERNAL, NOT_FOUND, OVERLOADED
from tests.agents.test_local import WORK, refused
from tests.agents.wired import Wired, tell
from tests.agents.world import BROKEN, command


def test_a_command_is_done_and_its_result_told() -> None:
    async def story(wired: Wired) -> None:
        for replayed in (False, True):
            done = await wired.agents.command(wired.at, command((1, 1, 1)), timeout=5)
            assert done == CommandResult(result={"did": "vm-1(1, 1, 1)start"}, replayed=replayed)
        assert wired.world.effects.total() == 1

    tell(story)


def test_lower_fences_and_older_orders_are_refused_over_http_as_well() -> None:
    async def story(wired: Wired) -> None:
        await wired.agents.command(wired.at, command((2, 1, 1), fence=5), timeout=5)
        stale = await refused(wired.agents.command(wired.at, command((3, 1, 1), fence=4), timeout=5))
        old = await refused(wired.agents.command(wired.at, command((1, 1, 1), fence=5), timeout=5))
        assert (stale.code, old.code) == (STALE.id, OLD.id)
        sealed = await wired.agents.seal(wired.at, "vm-1", 7, timeout=5)
        assert (sealed.order, sealed.state, sealed.fence) == ((2, 1, 1), CommandState.DONE, 7)
        late = await refused(wired.agents.command(wired.at, command((3, 1, 1), fence=6), timeout=5))
        assert (late.code, late.problem.resource) == (STALE.id, "vm-1")
        assert (await refused(wired.agents.seal(wired.at, "vm-1", 6, timeout=5))).code == STALE.id

    tell(story)


def test_a_failure_carries_what_the_host_said_over_http_as_well() -> None:
    async def story(wired: Wired) -> None:
        wired.world.failing.add("start")
        error = await refused(wired.agents.command(wired.at, command((1, 1, 1)), timeout=5))
        assert error.code == FAILED.id
        assert error.problem.cause is not None
        assert (error.problem.cause.code, error.problem.cause.message) == (BROKEN.id, "start does not fit")

    tell(story)


def test_a_command_that_outlasts_many_requests_is_waited_for() -> None:
    async def story(wired: Wired) -> None:
        wired.agents = LocalAgents(reply_wait=0.01)
        wired.agents.serve("http", wired.http.find)
        gate = wired.world.gates["start"] = asyncio.Event()
        running = asyncio.create_task(wired.agents.command(wired.at, command((1, 1, 1)), timeout=10))
        sealing = asyncio.create_task(wired.agents.seal(wired.at, "vm-1", 1, timeout=10))
        await wired.world.entered.wait()
        for _ in range(3):  # answered in between, so it does not occupy its connection
            await wired.agents.ask(wired.at, "echo", {}, timeout=5)
        assert not running.done()
        gate.set()
        assert (await running).result == {"did": "vm-1(1, 1, 1)start"}
        assert (await sealing).state is CommandState.DONE

    tell(story)


def test_the_deadline_of_the_caller_ends_the_request_and_not_the_command() -> None:
    async def story(wired: Wired) -> None:
        gate = wired.world.gates["start"] = asyncio.Event()
        error = await refused(wired.agents.command(wired.at, command((1, 1, 1)), timeout=0.1))
        assert error.code == TIMEOUT.id
        gate.set()
        done = await wired.agents.command(wired.at, command((1, 1, 1)), timeout=5)
        assert done.result == {"did": "vm-1(1, 1, 1)start"}
        assert wired.world.effects.total() == 1

    tell(story)


def test_questions_are_answered_and_registers_forgotten() -> None:
    async def story(wired: Wired) -> None:
        assert await wired.agents.ask(wired.at, "echo", {"a": [1, None, "é"]}, timeout=5) == {
            "a": [1, None, "é"]
        }
        await wired.agents.command(wired.at, command((1, 1, 1)), timeout=5)
        assert await wired.agents.forget(wired.at, 2, {"vm-1": 1, "vm-2": 1}, timeout=5) == 1
        assert (await refused(wired.agents.command(wired.at, command((1, 2, 1)), timeout=5))).code == OLD.id
        assert (await refused(wired.agents.ask(wired.at, "colour", {}, timeout=5))).code == UNKNOWN.id

    tell(story)


def test_a_command_whose_reply_is_lost_is_sent_again_and_done_once() -> None:
    async def story(wired: Wired) -> None:
        current.set(CallContext(work=WORK))
        wired.line.lose_replies = 2
        assert await order(wired.agents, wired.at, "start", {"id": "x"}, timeout=20) == {"did": "x"}
        assert wired.world.effects == {"x": 1}
        assert wired.line.lose_replies == 0

    tell(story)


def test_a_line_that_is_cut_in_mid_command_is_unreachable_and_the_command_goes_on() -> None:
    async def story(wired: Wired) -> None:
        gate = wired.world.gates["start"] = asyncio.Event()
        running = asyncio.create_task(wired.agents.command(wired.at, command((1, 1, 1)), timeout=10))
        await wired.world.entered.wait()
        wired.line.cut()
        assert (await refused(running)).code == UNREACHABLE.id
        gate.set()
        assert (await wired.agents.command(wired.at, command((1, 1, 1)), timeout=5)).replayed
        assert wired.world.effects.total() == 1

    tell(story)


def test_a_line_that_swallows_everything_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.2)

    async def story(wired: Wired) -> None:
        wired.agents = LocalAgents(reply_wait=0.01)
        wired.agents.serve("http", wired.http.find)
        await wired.agents.ask(wired.at, "echo", {}, timeout=5)
        wired.line.silent = True
        for attempt in (
            wired.agents.command(wired.at, command((1, 1, 1)), timeout=20),
            wired.agents.seal(wired.at, "vm-1", 1, timeout=20),
        ):
            error = await refused(attempt)
            assert (error.code, "no answer in time" in error.problem.message) == (UNREACHABLE.id, True)

    tell(story)


def test_nobody_at_the_address_is_unreachable() -> None:
    async def story(wired: Wired) -> None:
        for endpoint in (
            "http://127.0.0.1:1/agents/host-1",
            "http:///agents/x",
            "http://no.such.invalid/agents/x",
        ):
            error = await refused(wired.agents.ask(endpoint, "echo", {}, timeout=10))
            assert error.code == UNREACHABLE.id

    tell(story)


def test_a_host_that_is_not_there_is_said_to_be_unknown() -> None:
    async def story(wired: Wired) -> None:
        error = await refused(wired.agents.ask(f"{wired.base}/agents/host-2", "echo", {}, timeout=5))
        assert (error.code, error.problem.message) == (NOT_FOUND.id, "this is host-1, not host-2")

    tell(story)


ANSWERS = {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>": FOREIGN.id,
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n{"a"': FOREIGN.id,
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1]": FOREIGN.id,
    b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n": FOREIGN.id,
    b"HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\ncontent-length: 2\r\n\r\n{}": FOREIGN.id,
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>": UNREACHABLE.id,
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{": UNREACHABLE.id,
    b"-ERR unknown command 'POST'\r\n": FOREIGN.id,
    b"": UNREACHABLE.id,
}


@pytest.mark.parametrize(("answer", "code"), ANSWERS.items(), ids=range(len(ANSWERS)))
def test_what_is_no_agent_is_told_from_what_does_not_answer(answer: bytes, code: str) -> None:
    async def foreign(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await reader.readuntil(b"}")
            writer.write(answer)
            await writer.drain()
        writer.close()

    async def told() -> None:
        server = await asyncio.start_server(foreign, "127.0.0.1", 0)
        client = HttpAgents()
        agents = LocalAgents()
        agents.serve("http", client.find)
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/agents/a"
        error = await refused(agents.command(endpoint, command((1, 1, 1)), timeout=10))
        await client.close()
        server.close()
        assert error.code == code, error

    asyncio.run(told())


def test_a_thousand_commands_at_once_use_a_bounded_number_of_connections() -> None:
    async def story(wired: Wired) -> None:
        wired.agents = LocalAgents(reply_wait=10)
        wired.agents.serve("http", wired.http.find)
        gate = wired.world.gates["start"] = asyncio.Event()
        every = [
            asyncio.create_task(
                wired.agents.command(wired.at, command((1, 1, 1), resource=f"vm-{i}"), timeout=25)
            )
            for i in range(1000)
        ]
        while wired.agent.register.in_flight < 1000:  # all got their turn, though none has ended
            await asyncio.sleep(0.01)
        assert await wired.agents.ask(wired.at, "echo", {}, timeout=5) == {}  # nor do questions wait for them
        gate.set()
        results = await asyncio.gather(*every)
        assert len(results) == wired.world.effects.total() == 1000
        assert wired.line.most <= 16

    tell(story, connections=32, to_one=16, limit=1000)


def test_connections_are_used_again() -> None:
    async def story(wired: Wired) -> None:
        for i in range(20):
            await wired.agents.command(wired.at, command((i + 1, 1, 1)), timeout=5)
        assert wired.line.opened == 1

    tell(story)


def test_connections_of_more_addresses_than_allowed_are_not_kept() -> None:
    async def story(wired: Wired) -> None:
        for port in range(1, 6):
            await refused(wired.agents.ask(f"http://127.0.0.1:{port}/agents/a", "echo", {}, timeout=5))
        for _ in range(3):
            await wired.agents.ask(wired.at, "echo", {}, timeout=5)
        assert wired.line.opened == 3

    tell(story, connections=4, to_one=2)


def test_a_command_cut_off_by_a_crash_of_the_agent_is_done_by_the_next_one(tmp_path: Path) -> None:
    async def story(wired: Wired) -> None:
        gate = wired.world.gates["start"] = asyncio.Event()
        current.set(CallContext(work=WORK))
        running = asyncio.create_task(order(wired.agents, wired.at, "start", {"id": "x"}, timeout=20))
        await wired.world.entered.wait()
        await wired.agent.register.stop()
        await wired.agent.file.close()
        gate.set()
        wired.agent.power_on()
        assert await running == {"did": "x"}
        assert wired.world.effects == {"x": 1}

    tell(story, path=tmp_path / "agent.db")


def test_an_agent_with_too_much_to_do_is_asked_again() -> None:
    async def story(wired: Wired) -> None:
        gate = wired.world.gates["start"] = asyncio.Event()
        first = asyncio.create_task(
            wired.agents.command(wired.at, command((1, 1, 1), resource="vm-9"), timeout=10)
        )
        await wired.world.entered.wait()
        direct = await refused(wired.agents.command(wired.at, command((1, 1, 1), resource="vm-8"), timeout=5))
        assert direct.code == OVERLOADED.id
        current.set(CallContext(work=WORK))
        second = asyncio.create_task(order(wired.agents, wired.at, "start", {"id": "x"}, timeout=20))
        await asyncio.sleep(0)
        gate.set()
        assert (await first).result is not None
        assert await second == {"did": "x"}

    tell(story, limit=1)


def test_a_bug_of_the_agent_is_told_as_such() -> None:
    async def story(wired: Wired) -> None:
        error = await refused(wired.agents.ask(wired.at, "break", {}, timeout=5))
        assert (error.code, "ZeroDivisionError" in error.problem.message) == (INTERNAL.id, True)

    tell(story)


def test_after_the_end_nothing_is_asked() -> None:
    async def story(wired: Wired) -> None:
        await wired.http.close()
        answer: Any = await refused(wired.agents.ask(wired.at, "echo", {}, timeout=5))
        assert answer.code == UNREACHABLE.id

    tell(story)
