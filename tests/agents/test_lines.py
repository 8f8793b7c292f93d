"""Turns at the connections to agents: bounded, in order, and none kept long while others wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mgmtnode.agents import lines
from mgmtnode.agents.lines import TURN_SECONDS, Lines


class Scene:
    def __init__(self, in_all: int, to_one: int) -> None:
        self.lines = Lines(in_all, to_one)
        self.holds: dict[str, float] = {}
        self.order: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def command(self, name: str, address: str = "a") -> None:
        await self._begin(self._command(name, address))

    async def question(self, name: str, address: str = "a") -> None:
        await self._begin(self._question(name, address))

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await _settled()

    async def _begin(self, work: Awaitable[None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))
        await _settled()

    async def _command(self, name: str, address: str) -> None:
        async with self.lines.command(address) as hold:
            self.holds[name] = hold
            await self._until_ended(name)

    async def _question(self, name: str, address: str) -> None:
        async with self.lines.question(address):
            await self._until_ended(name)

    async def _until_ended(self, name: str) -> None:
        self.order.append(name)
        self.ends[name] = asyncio.Event()
        await self.ends[name].wait()


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def tell(in_all: int, to_one: int, story: Callable[[Scene], Awaitable[None]]) -> None:
    async def told() -> None:
        scene = Scene(in_all, to_one)
        await story(scene)
        for task in scene.tasks:
            task.cancel()
        await asyncio.gather(*scene.tasks, return_exceptions=True)
        assert all(line.used == 0 == line.commands_used for line in scene.lines._lines.values())

    asyncio.run(told())


def test_commands_to_one_address_wait_in_order_while_a_question_passes() -> None:
    async def story(scene: Scene) -> None:
        for name in "1234":
            await scene.command(name)
        await scene.question("ping")
        assert scene.order == ["1", "2", "3", "ping"]
        await scene.end("2")
        assert scene.order[-1] == "4"

    tell(100, 4, story)


def test_addresses_share_what_there_is_in_all() -> None:
    async def story(scene: Scene) -> None:
        for address in "abcd":
            await scene.command(address, address)
        assert scene.order == ["a", "b", "c"]
        await scene.end("a")
        assert scene.order == ["a", "b", "c", "d"]

    tell(4, 4, story)


def test_the_more_wait_the_shorter_a_turn_may_be_kept() -> None:
    async def story(scene: Scene) -> None:
        for number in range(12):
            await scene.command(str(number))
        for number in range(9):
            await scene.end(str(number))
        waiting = [0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0]  # behind each, when its turn came
        assert list(scene.holds.values()) == [TURN_SECONDS * min(1, 3 / max(n, 1)) for n in waiting]

    tell(100, 4, story)


def test_who_gives_up_waiting_takes_no_turn() -> None:
    async def story(scene: Scene) -> None:
        for name in "12345":
            await scene.command(name)
        scene.tasks[3].cancel()
        await scene.end("1")
        assert scene.order == ["1", "2", "3", "5"]

    tell(100, 4, story)


def test_unused_addresses_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(scene: Scene) -> None:
        await scene.command("busy", "busy")
        for number in range(10):
            await scene.question(str(number), str(number))
            await scene.end(str(number))
        assert not scene.lines.reusable
        monkeypatch.setattr(lines, "IDLE_SECONDS", 0.0)
        await scene.question("last", "last")
        assert list(scene.lines._lines) == ["busy", "last"]
        assert scene.lines.reusable

    tell(4, 4, story)
