"""What the host service has others tell it."""

from __future__ import annotations

from collections.abc import Collection

from services.host.watcher import HostWatcher


class SlotsMoved:
    """A ``ManagementNodeChangeListener``: whoever gets a slot watches the hosts in it, and nobody else does."""

    def __init__(self, watcher: HostWatcher) -> None:
        self._watcher = watcher

    async def node_joined(self, name: str) -> None:
        """Moves nothing by itself."""

    async def node_left(self, name: str) -> None:
        """Moves nothing by itself."""

    async def slots_gained(self, slots: Collection[int]) -> None:
        self._watcher.look()

    async def slots_lost(self, slots: Collection[int]) -> None:
        self._watcher.look()
