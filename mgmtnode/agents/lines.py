"""How many requests to agents are under way at once: in all, and to one address."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

RESERVED = 8  # one in so many is kept for questions: a ping must not wait behind commands
TURN_SECONDS = 2.0  # while many wait, nobody holds a turn so long that the last of them waits much longer
IDLE_SECONDS = 15.0


class Bound:
    """At most ``size`` requests at once, commands a few less."""

    def __init__(self, size: int) -> None:
        self._for_commands = max(1, size - max(1, size // RESERVED))
        self.all = asyncio.Semaphore(size)
        self.commands = asyncio.Semaphore(self._for_commands)
        self.users = 0  # whose commands are under way or wait for their turn

    @contextmanager
    def using(self) -> Iterator[None]:
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1

    @property
    def hold(self) -> float:
        waiting = self.users - self._for_commands
        return TURN_SECONDS * self._for_commands / waiting if waiting > 0 else math.inf


@dataclass(slots=True)
class Line:
    """What goes to one address. ``users`` are under way or wait for their turn; ``used``: the last one's time."""

    bound: Bound
    users: int = 0
    used: float = 0.0


class Lines:
    """The turns come in the order in which they were asked for. ``in_all`` and ``to_one`` are at least 2.

    As each turn is a connection, these are bounds of connections too; ``reusable`` says whether one may be kept open
    for later, which is so while fewer than ``in_all`` addresses are in use.
    """

    def __init__(self, in_all: int, to_one: int) -> None:
        self._in_all, self._to_one = in_all, to_one
        self._total = Bound(in_all)
        self._lines: OrderedDict[str, Line] = OrderedDict()

    @property
    def reusable(self) -> bool:
        return len(self._lines) <= self._in_all

    @asynccontextmanager
    async def command(self, address: str) -> AsyncIterator[float]:
        """A turn for something that may take long; says for how many seconds it may be held."""
        with self._using(address) as line:
            here, total = line.bound, self._total
            with here.using(), total.using():
                async with here.commands, total.commands, here.all, total.all:
                    yield min(here.hold, total.hold)

    @asynccontextmanager
    async def question(self, address: str) -> AsyncIterator[None]:
        with self._using(address) as line:
            async with line.bound.all, self._total.all:
                yield

    def _using(self, address: str) -> _Use:
        now = asyncio.get_running_loop().time()
        line = self._lines.get(address)
        if line is None:
            self._drop_idle(now)
            line = self._lines[address] = Line(Bound(self._to_one))
        self._lines.move_to_end(address)
        line.used = now
        return _Use(line)

    def _drop_idle(self, now: float) -> None:
        """Those not used for as long as a connection is kept open, the longest unused first."""
        while self._lines:
            address, line = next(iter(self._lines.items()))
            if line.used > now - IDLE_SECONDS:
                return
            if line.users:
                self._lines.move_to_end(address)
                line.used = now
                continue
            del self._lines[address]


class _Use:
    def __init__(self, line: Line) -> None:
        self._line = line

    def __enter__(self) -> Line:
        self._line.users += 1
        return self._line

    def __exit__(self, *exc: object) -> None:
        self._line.users -= 1
