"""What an agent answers to requests that its own client would never send."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from mgmtnode.agents.wire import REQUEST_BYTES
from mgmtnode.errors import NOT_FOUND, OVERLOADED
from tests.agents.wired import Wired, tell
from tests.agents.world import command

START = {"resource": "vm-1", "fence": 1, "order": [1, 1, 1], "action": "start", "args": {"id": "x"}}
BAD: list[Any] = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    START | {"fence": -1},
    START | {"fence": 1 << 63},
    START | {"order": [1, 1]},
    START | {"resource": ""},
    START | {"resource": "x" * 256},
    START | {"args": None},
    START | {"wait": 61},
    {name: value for name, value in START.items() if name != "action"},
]


async def post(wired: Wired, path: str, body: Any) -> httpx.Response:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    async with httpx.AsyncClient(base_url=wired.base, timeout=10) as client:
        return await client.post(path, **sent)


def check_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_a_malformed_body_is_refused_and_does_nothing(body: Any) -> None:
    async def story(wired: Wired) -> None:
        check_problem(await post(wired, "/agents/host-1/command", body), 400, "core.invalid")
        assert not wired.world.effects

    tell(story)


def test_a_body_beyond_the_bound_is_refused() -> None:
    async def story(wired: Wired) -> None:
        just_fits = b" " * (REQUEST_BYTES - 2) + b"{}"
        response = await post(wired, "/agents/host-1/ask", just_fits)
        assert "too large" not in response.text
        large = await post(wired, "/agents/host-1/ask", b" " * REQUEST_BYTES + b"{}")
        check_problem(large, 400, "core.invalid")
        assert "bytes" in large.json()["detail"]

    tell(story)


def test_only_what_there_is_can_be_asked_for() -> None:
    async def story(wired: Wired) -> None:
        for path in (
            "/",
            "/agents",
            "/agents/host-1",
            "/agents//ask",
            "/agents/host-1/dance",
            "/agents/a/b/ask",
        ):
            check_problem(await post(wired, path, START), 404, NOT_FOUND.id)
        async with httpx.AsyncClient(base_url=wired.base) as client:
            check_problem(await client.get("/agents/host-1/command"), 400, "core.invalid")
            assert (await client.get("/livez")).status_code == 200

    tell(story)


def test_a_running_command_is_answered_with_202() -> None:
    async def story(wired: Wired) -> None:
        gate = wired.world.gates["start"] = asyncio.Event()
        response = await post(wired, "/agents/host-1/command", START | {"wait": 0.01})
        assert (response.status_code, response.json()["running"]) == (202, True)
        seal = {"resource": "vm-1", "fence": 1, "wait": 0.01}
        assert (await post(wired, "/agents/host-1/seal", seal)).status_code == 202
        gate.set()
        response = await post(wired, "/agents/host-1/command", START | {"wait": 5})
        assert (response.status_code, response.json()["result"]) == (200, {"did": "x"})

    tell(story)


def test_requests_beyond_the_limit_are_refused_at_once() -> None:
    async def story(wired: Wired) -> None:
        wired.world.gates["question"] = asyncio.Event()
        wired.app._limit = 1
        waiting = asyncio.create_task(wired.agents.ask(wired.at, "wait", {}, timeout=20))
        await wired.world.entered.wait()
        response = await post(wired, "/agents/host-1/command", START)
        check_problem(response, 503, OVERLOADED.id)
        assert response.headers["retry-after"] == "1"
        wired.world.gates["question"].set()
        assert await waiting is None
        assert (await post(wired, "/agents/host-1/command", START | {"wait": 5})).status_code == 200

    tell(story)


def test_a_closed_agent_refuses_and_ends_its_connections() -> None:
    async def story(wired: Wired) -> None:
        await wired.agents.command(wired.at, command((1, 1, 1)), timeout=5)
        wired.app.close()
        response = await post(wired, "/agents/host-1/command", START)
        check_problem(response, 503, "agent.unreachable")
        assert response.headers["connection"] == "close"

    tell(story)


def test_unknown_fields_are_ignored_since_nodes_may_be_newer() -> None:
    async def story(wired: Wired) -> None:
        body = START | {"wait": 5, "colour": "green"}
        assert (await post(wired, "/agents/host-1/command", body)).status_code == 200

    tell(story)
