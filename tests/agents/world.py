"""A hypervisor that counts effects and can be held, and registers on it that survive their process."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from mgmtnode.agents.backend import Settled
from mgmtnode.agents.file import AgentFile
from mgmtnode.agents.port import UNKNOWN, AgentEndpoint, Command, Order
from mgmtnode.agents.register import CommandRegister
from mgmtnode.agents.repository import SCHEMA, RegisterRepository
from mgmtnode.errors import NOT_FOUND, Category, ErrorCode

BROKEN = ErrorCode("world.broken", Category.NO_CAPACITY, "it does not fit")


class World:
    """The hypervisor: it outlives the agent. An effect is named by the command's ``args["id"]``."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.log: list[str] = []
        self.failing: set[str] = set()
        self.entered = asyncio.Event()
        self.gates: dict[str, asyncio.Event] = {}

    async def perform(self, action: str, resource: str, args: dict[str, Any]) -> Any:
        self.entered.set()
        if action in self.gates:
            await self.gates[action].wait()
        if action in self.failing:
            raise BROKEN.error(f"{action} does not fit")
        self.effects[args["id"]] += 1
        self.log.append(args["id"])
        return {"did": args["id"]}

    async def probe(self, action: str, resource: str, args: dict[str, Any]) -> Settled:
        return Settled(happened=self.effects[args["id"]] > 0, result={"did": args["id"]})


class RegisterAlone:
    """The smallest agent: a register, and a few questions."""

    def __init__(self, register: CommandRegister, world: World) -> None:
        self.command, self.seal, self.forget = register.command, register.seal, register.forget
        self._world = world

    async def ask(self, question: str, body: dict[str, Any]) -> Any:
        match question:
            case "echo":
                return body
            case "effects":
                return dict(self._world.effects)
            case "wait":
                self._world.entered.set()
                await self._world.gates["question"].wait()
                return None
            case "break":
                raise ZeroDivisionError(question)
        raise UNKNOWN.error(f"no {question!r} here")


class Agent:
    """A register on a file, that can die and come back."""

    def __init__(self, path: Path | str, world: World, *, inline: bool = True, limit: int = 100) -> None:
        self.path, self.world, self.inline, self.limit = path, world, inline, limit
        self.power_on()

    def power_on(self) -> None:
        self.file = AgentFile(self.path, inline=self.inline, schema=SCHEMA)
        repository = RegisterRepository(self.file, "host-1")
        self.register = CommandRegister(repository, self.world, identity="first", limit=self.limit)

    def named(self, name: str) -> AgentEndpoint:
        """The agent of ``host-1``, the only one here."""
        if name != "host-1":
            raise NOT_FOUND.error(f"this is host-1, not {name}")
        return RegisterAlone(self.register, self.world)

    async def crash(self) -> None:
        """Nothing but what is in the file stays."""
        await self.register.stop()
        await self.file.close()
        self.power_on()


def command(order: Order, *, fence: int = 1, action: str = "start", resource: str = "vm-1") -> Command:
    """Its effect is named by all that makes it different."""
    name = f"{resource}{order}{action}"
    return Command(resource=resource, fence=fence, order=order, action=action, args={"id": name})
