"""Two buses over a real broker, without a database, and what they say to each other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from mgmtnode.bus.bus import Bus
from mgmtnode.bus.choice import transport_over
from mgmtnode.bus.message import Event, Internal, Route, by_resource, to_node
from mgmtnode.bus.transport import address_of
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.ports import SystemClock, SystemRng
from mgmtnode.ring.slots import SLOTS, SlotOwner, Slots, slot_of
from mgmtnode.schema import Data

NOT_RUNNING = ErrorCode("vm.not-running", Category.STATE, "the VM does not run")
VM = "00000000-0000-7000-8000-000000000001"


class Answer(Data, kw_only=True):
    text: str


class Ask(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = by_resource("vm_uuid")

    vm_uuid: str
    text: str = ""


class AskNode(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = to_node("node")

    node: str


class Told(Event, frozen=True, kw_only=True):
    number: int


def vm(node: str) -> str:
    """The uuid of a VM of node a (even slots) or b (odd ones)."""
    uuids = (str(uuid.UUID(int=n)) for n in range(100))
    return next(u for u in uuids if "ab"[slot_of(u) % 2] == node)


def bus(name: str, url: str, incarnation: int, members: str = "ab", ca: str = "") -> Bus:
    slots = Slots(name)
    nodes = dict.fromkeys(members, incarnation)
    slots.replace({slot: SlotOwner("ab"[slot % 2], 1) for slot in range(SLOTS)}, 1, nodes)
    clock, rng = SystemClock(), SystemRng()
    transport = transport_over(url, address_of(name, incarnation), clock=clock, rng=rng, ca=ca)
    return Bus(name, slots, transport, clock=clock, rng=rng)


@asynccontextmanager
async def two_nodes(
    url: str, handler: Callable[[str, Any], Awaitable[Answer]], ca: str = ""
) -> AsyncIterator[tuple[Bus, Bus]]:
    incarnation = SystemRng().bits(32)
    buses = [bus(name, url, incarnation, ca=ca) for name in "ab"]
    for b in buses:
        for message_type in (Ask, AskNode):
            b.handle(message_type, lambda msg, name=b.name: handler(name, msg))
        await b.start()
    try:
        yield buses[0], buses[1]
    finally:
        for b in buses:
            await b.stop()


async def echo(node: str, msg: Any) -> Answer:
    return Answer(text=f"{node}:{getattr(msg, 'text', '')}")


def run(story: Callable[[], Awaitable[None]], seconds: float = 90) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await story()

    asyncio.run(limited())


async def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
