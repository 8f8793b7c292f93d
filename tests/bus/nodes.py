"""Two or three buses in one process, and the messages they exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from mgmtnode.bus.bus import Bus
from mgmtnode.bus.memory import Hub
from mgmtnode.bus.message import Event, Internal, Route, by_resource, to_node
from mgmtnode.bus.transport import address_of
from mgmtnode.ring.slots import SLOTS, SlotOwner, Slots, slot_of
from mgmtnode.schema import Data
from mgmtnode.telemetry.telemetry import Telemetry
from tests.virtual_time import LoopClock, SeededRng


class Answer(Data, kw_only=True):
    text: str


class Ask(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = by_resource("vm_uuid")

    vm_uuid: str
    text: str = ""


class AskShort(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = by_resource("vm_uuid")
    timeout: ClassVar[float] = 2.0

    vm_uuid: str


class AskNode(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = to_node("node")

    node: str


class AskHere(Internal[Answer], frozen=True, kw_only=True):
    text: str = ""


class Unhandled(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = by_resource("vm_uuid")

    vm_uuid: str


class VmEvent(Event, frozen=True, kw_only=True):
    """Base of the two below."""


class VmStarted(VmEvent, frozen=True, kw_only=True):
    name: ClassVar[str] = "vm.started"
    number: int = 0


class VmStopped(VmEvent, frozen=True, kw_only=True):
    name: ClassVar[str] = "vm.stopped"


def vm(node: str, index: int = 0, among: str = "ab") -> str:
    """The uuid of a VM in a slot of ``node``, when slots are dealt in turn to ``among``."""
    found = [u for u in (f"vm-{n}" for n in range(2000)) if among[slot_of(u) % len(among)] == node]
    return found[index]


def dealt(among: str) -> dict[int, SlotOwner]:
    """The slots dealt in turn."""
    return {slot: SlotOwner(among[slot % len(among)], 1) for slot in range(SLOTS)}


class Nodes:
    """Buses by name, all with the same view of the slots. ``async with`` starts and stops them."""

    def __init__(
        self, names: str = "ab", hub: Hub | None = None, telemetry: Sequence[Telemetry] | None = None
    ) -> None:
        self.hub = Hub() if hub is None else hub
        self.buses: dict[str, Bus] = {}
        for seed, name in enumerate(names):
            transport = self.hub.transport(address_of(name, 0))
            self.buses[name] = Bus(
                name,
                Slots(name),
                transport,
                clock=LoopClock(),
                rng=SeededRng(seed),
                telemetry=telemetry[seed] if telemetry else None,
            )
        self.version = 0
        self.deal(names)

    def deal(self, among: str, nodes: str | None = None, tell: str | None = None) -> None:
        """Changes the owners, for the nodes in ``tell`` (all by default); ``nodes`` are in the cluster."""
        self.version += 1
        members = dict.fromkeys(nodes or among, 0)
        for name in tell or self.buses:
            self.buses[name].slots.replace(dealt(among), self.version, members)

    def handle(
        self, message_type: type[Any], fn: Callable[[str, Any], Awaitable[Any]], **options: Any
    ) -> None:
        """``fn(node name, message)`` handles it on every node."""
        for name, bus in self.buses.items():
            bus.handle(message_type, lambda msg, name=name: fn(name, msg), **options)

    def __getitem__(self, name: str) -> Bus:
        return self.buses[name]

    async def __aenter__(self) -> Nodes:
        for bus in self.buses.values():
            await bus.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for bus in self.buses.values():
            await bus.stop()


async def echo(node: str, msg: Any) -> Answer:
    return Answer(text=f"{node}:{getattr(msg, 'text', '')}")


def slow(seconds: float) -> Callable[[str, Any], Awaitable[Answer]]:
    async def answer(node: str, msg: Any) -> Answer:
        await asyncio.sleep(seconds)
        return await echo(node, msg)

    return answer
