"""How many requests to agents are under way at once: in all, and to one address."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import takewhile

RESERVED = 8  # one in so many is kept for questions: a ping must not wait behind commands
TURN_SECONDS = (
    2.0  # nobody keeps a turn longer, and while many wait, not so long that the last waits much longer
)
IDLE_SECONDS = 15.0


class Line:
    """At most ``size`` requests at once, commands a few less. ``commands_used``, ``used``: those that are under way or
    wait for their turn; ``last``: when one was last asked for (loop time)."""

    def __init__(self, size: int) -> None:
        self._for_commands = max(1, size - max(1, size // RESERVED))
        self.all = asyncio.Semaphore(size)
        self.commands = asyncio.Semaphore(self._for_commands)
        self.used = self.commands_used = 0
        self.last = 0.0

    @property
    def hold(self) -> float:
        """For how many seconds a command may keep its turn."""
        waiting = self.commands_used - self._for_commands
        return TURN_SECONDS * min(1.0, self._for_commands / max(waiting, 1))


class Lines:
    """Turns come in the order in which they were asked for. ``in_all`` and ``to_one`` are at least 2.

    As each turn is a connection, these are bounds of connections too; ``reusable`` says whether one may be kept open
    for later, which is so while no more than ``in_all`` addresses are in use.
    """

    def __init__(self, in_all: int, to_one: int) -> None:
        self._in_all, self._to_one = in_all, to_one
        self._total = Line(in_all)
        self._lines: OrderedDict[str, Line] = OrderedDict()

    @property
    def reusable(self) -> bool:
        return len(self._lines) <= self._in_all

    @asynccontextmanager
    async def command(self, address: str) -> AsyncIterator[float]:
        """A turn for something that may take long; says for how many seconds it may be kept."""
        here, total = self._line(address), self._total
        for line in (here, total):
            line.used += 1
            line.commands_used += 1
        try:
            async with here.commands, total.commands, here.all, total.all:
                yield min(here.hold, total.hold)
        finally:
            for line in (here, total):
                line.used -= 1
                line.commands_used -= 1

    @asynccontextmanager
    async def question(self, address: str) -> AsyncIterator[None]:
        """A turn for something short."""
        here = self._line(address)
        here.used += 1
        try:
            async with here.all, self._total.all:
                yield
        finally:
            here.used -= 1

    def _line(self, address: str) -> Line:
        now = asyncio.get_running_loop().time()
        line = self._lines.get(address)
        if line is None:
            self._drop_idle(now)
            line = self._lines[address] = Line(self._to_one)
        line.last = now
        self._lines.move_to_end(address)
        return line

    def _drop_idle(self, now: float) -> None:
        """Those not used for as long as a connection is kept open, the longest unused first."""
        for address, line in list(takewhile(lambda x: x[1].last <= now - IDLE_SECONDS, self._lines.items())):
            if line.used:
                line.last = now
                self._lines.move_to_end(address)
            else:
                del self._lines[address]
