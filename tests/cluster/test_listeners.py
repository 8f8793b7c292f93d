"""Services hear of nodes and slots that came and went, each time the view of the ring is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from mgmtnode.cluster.listeners import Listeners
from mgmtnode.ring.slots import SLOTS, SlotOwner, Slots
from tests.virtual_time import run


class Diary:
    def __init__(self) -> None:
        self.lines: list[str] = []

    async def node_joined(self, name: str) -> None:
        self.lines.append(f"{name} joined")

    async def node_left(self, name: str) -> None:
        self.lines.append(f"{name} left")

    async def slots_gained(self, slots: Collection[int]) -> None:
        self.lines.append(f"{len(slots)} gained")

    async def slots_lost(self, slots: Collection[int]) -> None:
        self.lines.append(f"{len(slots)} lost")


class Broken(Diary):
    async def node_joined(self, name: str) -> None:
        raise OSError("it is stuck")


def view(*halves: str) -> dict[int, SlotOwner]:
    return {slot: SlotOwner(halves[slot % len(halves)], 1) for slot in range(SLOTS)}


def test_listeners_hear_what_changed_and_one_that_fails_keeps_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        slots, diary = Slots("a"), Diary()
        slots.replace(view("a"), 1, {"a": 1})
        listeners = Listeners(slots, [Broken(), diary])
        listeners.start()
        await asyncio.sleep(1)
        slots.replace(view("a", "b"), 2, {"a": 1, "b": 1})
        await asyncio.sleep(1)
        slots.replace(view("a", "b"), 3, {"a": 1, "b": 2})
        await asyncio.sleep(1)
        slots.replace(view("a"), 4, {"a": 1})
        await asyncio.sleep(1)
        await listeners.stop()
        assert diary.lines == [
            "a joined", "1024 gained", "b joined", "512 lost", "b left", "b joined", "b left", "512 gained",
        ]  # fmt: skip
        assert (listeners.gained, listeners.lost) == (1536, 512)

    run(story)
    assert "it is stuck" in caplog.text
