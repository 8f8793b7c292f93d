"""One connection to a broker on the event loop, against the other end of a socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context

import pytest

from mgmtnode.bus import session as sessions
from mgmtnode.bus.session import Session
from mgmtnode.bus.stream import Stream

MORE_THAN_A_KERNEL_TAKES = b"x" * (8 << 20)


class Words:
    """Says the words it is given, one a turn, and keeps what it hears."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.heard = b""
        self.to_say: list[bytes] = []
        self.gone = self.ticks = 0
        self.done = False

    def read(self) -> None:
        while True:
            try:
                self.heard += self.stream.recv(3)
            except TimeoutError:
                return

    def work(self) -> None:
        if self.to_say:
            self.stream.sendall(self.to_say.pop(0))

    def has_work(self) -> bool:
        return bool(self.to_say)

    def flushed(self) -> None:
        self.gone += 1

    def tick(self) -> None:
        self.ticks += 1

    def finished(self) -> bool:
        return self.done


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Words, Session, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    stream = Stream(ours)
    words = Words(stream)
    session = Session(words, stream, Context())
    try:
        yield words, session, theirs
    finally:
        session.close()
        ours.close()
        theirs.close()


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))


async def heard_by(theirs: socket.socket, count: int) -> bytes:
    loop, parts, left = asyncio.get_running_loop(), list[bytes](), count
    while left:
        parts.append(await loop.sock_recv(theirs, left))
        left -= len(parts[-1])
    return b"".join(parts)


def test_what_comes_is_read_in_pieces_of_any_size_and_what_is_written_goes_in_order() -> None:
    async def story() -> None:
        async with talking() as (words, session, theirs):
            words.to_say += [b"one ", b"two ", b"three"]
            session.wake()
            assert await heard_by(theirs, 13) == b"one two three"
            theirs.send(b"as you like it")
            while words.heard != b"as you like it":
                await asyncio.sleep(0)
            words.done = True
            session.wake()
            await session.over()

    run(story)


def test_what_the_kernel_does_not_take_waits_and_nothing_more_is_written_until_it_has_gone() -> None:
    async def story() -> None:
        async with talking() as (words, session, theirs):
            words.to_say += [MORE_THAN_A_KERNEL_TAKES, b"the end"]
            session.wake()
            while not session.stream.unsent:
                await asyncio.sleep(0)
            for _ in range(10):
                session.wake()
                await asyncio.sleep(0)
            assert words.to_say == [b"the end"] and words.gone == 0
            size = len(MORE_THAN_A_KERNEL_TAKES)
            assert await heard_by(theirs, size + 7) == MORE_THAN_A_KERNEL_TAKES + b"the end"
            assert words.gone == 2 and not session.stream.unsent

    run(story)


def test_what_is_left_when_the_stream_is_given_back_is_sent_first() -> None:
    async def story() -> None:
        async with talking() as (words, session, theirs):
            words.to_say.append(MORE_THAN_A_KERNEL_TAKES)
            session.wake()
            while not session.stream.unsent:
                await asyncio.sleep(0)
            session.close()
            given = asyncio.create_task(asyncio.to_thread(session.stream.give_back, 10.0))
            assert await heard_by(theirs, len(MORE_THAN_A_KERNEL_TAKES)) == MORE_THAN_A_KERNEL_TAKES
            await given
            assert session.stream.sock.gettimeout() == 10.0

    run(story)


def test_a_session_ends_with_what_has_broken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "TICK", 0.01)

    def fails() -> None:
        raise ZeroDivisionError

    async def story() -> None:
        async with talking() as (_, session, theirs):
            theirs.close()
            with pytest.raises(ConnectionError, match="closed by the other side"):
                await session.over()
        for what in ("read", "work", "tick"):
            async with talking() as (words, session, theirs):
                setattr(words, what, fails)
                theirs.send(b"go")
                with pytest.raises(ZeroDivisionError):
                    await session.over()
        async with talking() as (_, session, _):
            session.end(ConnectionError("nothing comes through"))
            with pytest.raises(ConnectionError, match="nothing comes"):
                await session.over()

    run(story)


def test_what_cannot_be_sent_for_long_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "TICK", 0.01)
    monkeypatch.setattr(sessions, "SEND_TIMEOUT", 0.1)

    async def story() -> None:
        async with talking() as (words, session, _):
            words.to_say.append(MORE_THAN_A_KERNEL_TAKES)
            session.wake()
            with pytest.raises(TimeoutError, match=r"0\.1 s"):
                await session.over()

    run(story)


def test_nothing_is_read_or_written_once_it_is_closed() -> None:
    async def story() -> None:
        async with talking() as (words, session, theirs):
            session.wake()
            session.close()
            words.to_say.append(b"too late")
            theirs.send(b"too late")
            for _ in range(10):
                await asyncio.sleep(0)
            assert words.heard == b"" and words.to_say == [b"too late"]

    run(story)
