"""What is gathered, and when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from mgmtnode.bus import outgoing
from mgmtnode.bus.outgoing import EVENTS_WAIT, Outgoing
from mgmtnode.bus.transport import Receiver, Traffic
from mgmtnode.errors import ApiError


class Diary:
    """A transport that keeps what it is given: ``(destination or "all", envelopes)``."""

    address, healthy, overloaded, traffic = "a", True, False, Traffic()

    def __init__(self) -> None:
        self.entries: list[tuple[str, list[bytes]]] = []

    async def start(self, receiver: Receiver) -> None: ...

    async def stop(self) -> None: ...

    def renew(self) -> None: ...

    def send(self, destination: str, envelopes: Sequence[bytes]) -> None:
        self.entries.append((destination, list(envelopes)))

    def publish(self, envelopes: Sequence[bytes]) -> None:
        self.entries.append(("all", list(envelopes)))


def run(story: Callable[[Diary, Outgoing], Awaitable[None]]) -> None:
    diary = Diary()

    async def told() -> None:
        await asyncio.wait_for(story(diary, Outgoing(diary)), 20)

    asyncio.run(told())


def test_what_is_sent_during_one_turn_travels_together_by_destination() -> None:
    async def story(diary: Diary, out: Outgoing) -> None:
        for n in (b"1", b"2", b"3"):
            out.send("b", n)
        out.send("c", b"4")
        assert not diary.entries
        await asyncio.sleep(0)
        assert diary.entries == [("b", [b"1", b"2", b"3"]), ("c", [b"4"])]

    run(story)


def test_events_wait_for_each_other_and_one_that_cannot_wait_takes_them_along() -> None:
    async def story(diary: Diary, out: Outgoing) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        out.tell_all(b"1", prompt=False)
        await asyncio.sleep(0)
        out.tell_all(b"2", prompt=False)
        while not diary.entries:
            await asyncio.sleep(0.001)
        assert diary.entries == [("all", [b"1", b"2"])]
        assert loop.time() - began >= EVENTS_WAIT * 0.9
        out.tell_all(b"3", prompt=False)
        out.tell_all(b"4", prompt=True)
        out.tell_all(b"5", prompt=False)
        await asyncio.sleep(0)
        assert diary.entries[1:] == [("all", [b"3", b"4", b"5"])]
        await asyncio.sleep(3 * EVENTS_WAIT)
        assert len(diary.entries) == 2, "nothing goes twice"

    run(story)


def test_all_goes_at_once_at_the_end() -> None:
    async def story(diary: Diary, out: Outgoing) -> None:
        out.tell_all(b"1", prompt=False)
        out.send("b", b"2")
        out.flush()
        assert diary.entries == [("all", [b"1"]), ("b", [b"2"])]
        await asyncio.sleep(2 * EVENTS_WAIT)
        assert len(diary.entries) == 2

    run(story)


def test_it_refuses_rather_than_gather_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_GATHERED", 2)

    async def story(diary: Diary, out: Outgoing) -> None:
        out.send("b", b"1")
        out.tell_all(b"2", prompt=False)
        with pytest.raises(ApiError, match=r"core\.overloaded"):
            out.send("b", b"3")
        with pytest.raises(ApiError, match=r"core\.overloaded"):
            out.tell_all(b"3", prompt=True)
        out.flush()
        out.send("b", b"3")

    run(story)
