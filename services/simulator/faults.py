"""The faults one simulated host has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from mgmtnode.agents.port import UNREACHABLE
from mgmtnode.contracts.simulator import FAULT, Fault, FaultKind
from mgmtnode.errors import OVERLOADED
from mgmtnode.ports import Rng

LIMIT = 1000
AT_ONCE = (FaultKind.CRASH_VM, FaultKind.REPLACE_DISK)


class HostFaults:
    """They last as long as the process: a fault is the experimenter's, not the host's."""

    def __init__(self, host: str, rng: Rng) -> None:
        self._host, self._rng = host, rng
        self._faults: list[Fault] = []
        self._cleared: asyncio.Future[None] | None = None

    @property
    def now(self) -> list[Fault]:
        return list(self._faults)

    def add(self, fault: Fault) -> None:
        if len(self._faults) >= LIMIT:
            raise OVERLOADED.error(f"{self._host} has {LIMIT} faults already; clear them first")
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()
        if self._cleared is not None:
            self._cleared.set_result(None)
            self._cleared = None

    def reachable(self) -> None:
        """Raises agent.unreachable while the host is cut off."""
        if self._strikes(FaultKind.DISCONNECT, "*"):
            raise UNREACHABLE.error(f"{self._host} is disconnected (simulated)")

    def reply(self, action: str) -> None:
        """Raises agent.unreachable if the answer gets lost."""
        if self._strikes(FaultKind.LOSE_REPLY, action):
            raise UNREACHABLE.error(f"the reply of {self._host} to {action} was lost (simulated)")

    async def work(self, action: str, delay: Callable[[], float]) -> None:
        """Takes the time of ``action`` (``delay`` in seconds, unless slowed down), hangs, or raises
        simulator.fault."""
        slow = self._strikes(FaultKind.SLOW, action)
        seconds = slow.delay_ms / 1000 if slow else delay()
        if seconds > 0:
            await asyncio.sleep(seconds)
        if self._strikes(FaultKind.HANG, action):
            await self._until_cleared()
        if self._strikes(FaultKind.FAIL, action):
            raise FAULT.error(f"{action} fails on {self._host}, as it was told to")

    async def _until_cleared(self) -> None:
        if self._cleared is None:
            self._cleared = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._cleared)

    def _strikes(self, kind: FaultKind, action: str) -> Fault | None:
        for i, fault in enumerate(self._faults):
            if fault.kind is kind and fault.action in ("*", action) and self._hits(fault):
                self._wear(i, fault)
                return fault
        return None

    def _hits(self, fault: Fault) -> bool:
        return fault.probability >= 1 or self._rng.uniform(0, 1) < fault.probability

    def _wear(self, index: int, fault: Fault) -> None:
        if fault.times == 1:
            del self._faults[index]
        elif fault.times is not None:
            self._faults[index] = msgspec.structs.replace(fault, times=fault.times - 1)
