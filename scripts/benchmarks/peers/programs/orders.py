"""How a program that is compared speaks with the harness: a JSON object a line. Standard library only, because this
runs in the environment of each.

    PROGRAM serve URL    says ``{"ready": true, "about": …}`` once it answers calls
    PROGRAM call URL     says the same, then answers each order on its standard input with what it measured
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from typing import Any

# Libraries print banners: what they say goes to the log, what we say to the harness.
_harness = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

TIMEOUT = 120.0
"""Seconds a call may take: far more than any does, so that nobody's timers fire."""


class Turn:
    """One order: calls with a text of ``size`` characters, ``outstanding`` at a time, either ``count`` of them or for
    ``seconds``. The handler waits ``wait`` seconds and answers the same text."""

    def __init__(
        self,
        outstanding: int,
        size: int,
        seconds: float = 0.0,
        count: int = 0,
        wait: float = 0.0,
        to: str = "",
    ) -> None:
        self.outstanding, self.wait, self.to = outstanding, wait, to
        self.text = "x" * size
        self._latencies: list[float] = []
        self._count, self._begun = count, 0
        self._start = time.perf_counter()
        self._until = self._start + seconds

    def more(self) -> bool:
        """Whether one more call is to be made; it then counts as begun. However slow, as many as are to be outstanding
        are begun."""
        self._begun += 1
        if self._count:
            return self._begun <= self._count
        return self._begun <= self.outstanding or time.perf_counter() < self._until

    def took(self, begin: float, answer: Any) -> None:
        """A call that began at ``begin`` was answered."""
        if answer != self.text:
            raise ValueError(f"wrong answer: {answer!r:.100}")
        self._latencies.append(time.perf_counter() - begin)

    def result(self) -> dict[str, float]:
        seconds, found = time.perf_counter() - self._start, sorted(self._latencies)
        if not found:
            raise ValueError("no call was answered")
        p50, p99 = found[len(found) // 2], found[min(len(found) - 1, len(found) * 99 // 100)]
        return {"calls": len(found), "seconds": seconds, "p50": p50, "p99": p99}


async def closed_loop(turn: Turn, call: Callable[[], Awaitable[Any]]) -> None:
    """As many tasks as calls are to be outstanding, each calling again when it has its answer."""

    async def work() -> None:
        while turn.more():
            begin = time.perf_counter()
            turn.took(begin, await call())

    await asyncio.gather(*(work() for _ in range(turn.outstanding)))


def window(turn: Turn, send: Callable[[], Any], receive: Callable[[Any], Any]) -> None:
    """For clients without an event loop: a window of calls sent, the oldest received first."""
    waiting: deque[tuple[float, Any]] = deque()
    going = True
    while True:
        while going and len(waiting) < turn.outstanding and (going := turn.more()):
            waiting.append((time.perf_counter(), send()))
        if not waiting:
            return
        begin, sent = waiting.popleft()
        turn.took(begin, receive(sent))


def orders() -> Iterator[Turn]:
    for line in sys.stdin:
        yield Turn(**json.loads(line))


def say(**words: Any) -> None:
    _harness.write(json.dumps(words) + "\n")
    _harness.flush()


def ready(*distributions: str) -> None:
    """``distributions``: whose versions are told."""
    say(ready=True, about=", ".join(f"{name} {version(name)}" for name in distributions))


async def obey(make_call: Callable[[Turn], Callable[[], Awaitable[Any]]]) -> None:
    """Answers all orders on an event loop."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        turn = Turn(**json.loads(line))
        await closed_loop(turn, make_call(turn))
        say(**turn.result())
