"""Two nodes' buses: ``a`` calls, ``b`` answers; ``to="a"`` is a call on the same node."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from messages import Ask, answer
from orders import Turn, obey, ready

from mgmtnode.bus.bus import Bus
from mgmtnode.bus.choice import transport_over
from mgmtnode.bus.transport import address_of
from mgmtnode.ports import SystemClock, SystemRng
from mgmtnode.ring.slots import SLOTS, SlotOwner, Slots


async def started(name: str, url: str) -> Bus:
    slots = Slots(name)
    slots.replace(dict.fromkeys(range(SLOTS), SlotOwner("a", 1)), 1, {"a": 0, "b": 0})
    transport = transport_over(url, address_of(name, 0), clock=SystemClock(), rng=SystemRng())
    bus = Bus(name, slots, transport, clock=SystemClock(), rng=SystemRng())
    bus.handle(Ask, answer)
    await bus.start()
    ready("mgmtnode")
    return bus


async def serve(url: str) -> None:
    await started("b", url)
    await asyncio.Event().wait()


async def call(url: str) -> None:
    bus = await started("a", url)

    def make_call(turn: Turn):  # type: ignore[no-untyped-def]  # a closure of this file only
        async def one() -> str:
            return (await bus.call(Ask(node=turn.to or "b", text=turn.text, wait=turn.wait))).text

        return one

    await obey(make_call)
    await bus.stop()


if __name__ == "__main__":
    uvloop.run({"serve": serve, "call": call}[sys.argv[1]](sys.argv[2]))
