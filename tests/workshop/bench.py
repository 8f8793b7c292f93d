"""The world outside the database: a host with a register, and the test's hand in every step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mgmtnode.agents.port import OLD, STALE
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import WorkToken
from mgmtnode.workflow.flow import Sealed
from tests.workshop.contract import JAMMED

if TYPE_CHECKING:
    from tests.workshop.world import Core

HOST = "0190aaaa-0000-7000-8000-0000000000ff"
POOL = "0190aaaa-0000-7000-8000-0000000000fe"
UNITS = "units"
Deed = Callable[[], Awaitable[None] | None]


@dataclass
class Register:
    fence: int = 0
    order: tuple[int, int, int] = (0, 0, 0)
    state: str = ""
    error: ApiError | None = None
    log: list[tuple[tuple[int, int, int], str]] = field(default_factory=list)
    present: set[str] = field(default_factory=set)


class Host:
    """Survives the nodes. Does a command once, refuses what is stale or old, and remembers how the last one ended."""

    def __init__(self) -> None:
        self.registers: dict[str, Register] = {}
        self.away = False
        self.fail: dict[str, ApiError] = {}

    def of(self, resource: str) -> Register:
        return self.registers.setdefault(resource, Register())

    def do(self, work: WorkToken, action: str) -> None:
        if self.away:
            raise JAMMED.error("the host is away")
        register = self.of(work.resource_uuid)
        if work.fence < register.fence:
            raise STALE.error()
        register.fence = work.fence
        if work.order < register.order:
            raise OLD.error()
        if work.order == register.order and register.state in ("DONE", "FAILED"):
            if register.error:
                raise register.error
            return
        register.order, register.state, register.error = work.order, "STARTED", None
        register.log.append((work.order, action))
        if error := self.fail.get(action):
            register.state, register.error = "FAILED", error
            raise error
        if action.startswith("undo "):
            register.present.discard(action.removeprefix("undo "))
        else:
            register.present.add(action)
        register.state = "DONE"

    def seal(self, resource: str, fence: int) -> Sealed | None:
        if self.away:
            raise JAMMED.error("the host is away")
        register = self.of(resource)
        if fence < register.fence:
            raise STALE.error()
        register.fence = fence
        if not register.state:
            return None
        return Sealed(run_no=register.order[0], step=register.order[1], state=register.state)


class Bench:
    """One node's way to the host. ``deeds``: what else happens at a place, each time or as often as given."""

    def __init__(self, core: Core, host: Host, deeds: dict[str, Deed]) -> None:
        self._core, self.host, self._deeds = core, host, deeds
        self.visits: Counter[str] = Counter()

    def now(self, place: str) -> None:
        """Inside a transaction."""
        self.visits[place] += 1
        if deed := self._deeds.get(place):
            assert deed() is None

    async def at(self, place: str) -> None:
        self.visits[place] += 1
        await asyncio.sleep(0)
        if (deed := self._deeds.get(place)) and (waiting := deed()) is not None:
            await waiting

    async def command(self, work: WorkToken, action: str) -> None:
        await self._core.boundary(f"before {action}")
        self.host.do(work, action)
        await self._core.boundary(f"after {action}")

    async def seal(self, resource: str, fence: int) -> Sealed | None:
        await self._core.boundary("before seal")
        return self.host.seal(resource, fence)
