"""Telling services that nodes came or went and that slots moved, so that they take over what they watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextvars import Context
from typing import Protocol

from mgmtnode.errors import log_failure
from mgmtnode.extension.point import extension_point
from mgmtnode.ring.slots import Slots

log = logging.getLogger(__name__)


@extension_point
class ManagementNodeChangeListener(Protocol):
    """Called on the event loop of every node, one call after the other, after the change is in force. What it raises
    is logged and changes nothing. A slot may come back: a listener compares, it does not count."""

    async def node_joined(self, name: str) -> None: ...

    async def node_left(self, name: str) -> None: ...

    async def slots_gained(self, slots: Collection[int]) -> None: ...

    async def slots_lost(self, slots: Collection[int]) -> None: ...


class Listeners:
    """Finds out what changed each time the view of the ring is replaced."""

    def __init__(self, slots: Slots, listeners: Sequence[ManagementNodeChangeListener]) -> None:
        self._slots, self._listeners = slots, listeners
        self._nodes: dict[str, int] = {}
        self._own: frozenset[int] = frozenset()
        self.gained = self.lost = 0  # slots, since this node booted
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on; what is there already is told at once."""
        self._slots.on_change(self._changed.set)
        self._changed.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="listeners", context=Context())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._compare()

    async def _compare(self) -> None:
        nodes, own = dict(self._slots.nodes), frozenset(self._slots.own_slots())
        before, self._nodes = self._nodes, nodes
        had, self._own = self._own, own
        self.gained += len(own - had)
        self.lost += len(had - own)
        for listener in self._listeners:
            try:
                await self._tell(listener, before, nodes, had, own)
            except Exception as exc:
                log_failure(log, exc, "a listener to changes of the cluster failed")

    async def _tell(
        self,
        listener: ManagementNodeChangeListener,
        before: dict[str, int],
        nodes: dict[str, int],
        had: frozenset[int],
        own: frozenset[int],
    ) -> None:
        for name in sorted(n for n in before if before[n] != nodes.get(n)):
            await listener.node_left(name)
        for name in sorted(n for n in nodes if nodes[n] != before.get(n)):
            await listener.node_joined(name)
        if lost := had - own:
            await listener.slots_lost(lost)
        if gained := own - had:
            await listener.slots_gained(gained)
