"""Sockets that are waited for again and again, on the loops that nodes run on."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest
import uvloop

from mgmtnode.db.watch import Sockets, sockets

PATIENCE = 5.0
Story = Callable[[Sockets, socket.socket, socket.socket], Awaitable[None]]
RUNS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection: only those can be reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        return here, server.accept()[0]


def on(run: Callable[[Awaitable[None]], None], story: Story) -> None:
    async def told() -> None:
        here, there = pair()
        with closing(here), closing(there):
            await asyncio.wait_for(story(sockets(asyncio.get_running_loop()), here, there), PATIENCE)

    run(told())


@RUNS
def test_each_wait_is_told_once_there_is_something(run: Callable[[Awaitable[None]], None]) -> None:
    async def story(watched: Sockets, here: socket.socket, there: socket.socket) -> None:
        for _ in range(3):
            readable = watched.readable(here.fileno())
            await asyncio.sleep(0)
            assert not readable.done()
            there.send(b"x")
            await readable
            here.recv(1)

    on(run, story)


@RUNS
def test_what_nobody_waits_for_is_found_by_who_asks_later(run: Callable[[Awaitable[None]], None]) -> None:
    async def story(watched: Sockets, here: socket.socket, there: socket.socket) -> None:
        given_up = watched.readable(here.fileno())
        given_up.cancel()
        there.send(b"x")
        for _ in range(3):
            await asyncio.sleep(0.01)
        await watched.readable(here.fileno())
        assert here.recv(1) == b"x"

    on(run, story)


@RUNS
def test_a_reset_is_told_as_often_as_somebody_asks(run: Callable[[Awaitable[None]], None]) -> None:
    """A server that says goodbye and resets the connection: the goodbye is read, and then the end."""

    async def story(watched: Sockets, here: socket.socket, there: socket.socket) -> None:
        first = watched.readable(here.fileno())
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        await first
        for _ in range(3):
            await watched.readable(here.fileno())

    on(run, story)


@RUNS
def test_a_number_that_became_another_socket_is_that_socket(run: Callable[[Awaitable[None]], None]) -> None:
    async def story(watched: Sockets, here: socket.socket, there: socket.socket) -> None:
        first = watched.readable(here.fileno())
        there.send(b"x")
        await first
        number = here.fileno()
        here.close()
        again, other = pair()
        with closing(again), closing(other):
            os.dup2(again.fileno(), number)
            readable = watched.readable(number)
            await asyncio.sleep(0.01)
            assert not readable.done()
            other.send(b"y")
            await readable
            assert again.recv(1) == b"y"
            os.close(number)

    on(run, story)
