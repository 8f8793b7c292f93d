"""Has hosts forget the commands to VMs that are no more: otherwise their registers would grow for ever."""

from __future__ import annotations

import asyncio
import logging

from mgmtnode.contracts.host import HostStatus
from mgmtnode.errors import ApiError
from mgmtnode.service import NodeContext
from services.host.config import FORGET_INTERVAL
from services.host.drivers import HostDrivers
from services.host.known import KnownHosts
from services.host.repository import HostRecord

log = logging.getLogger(__name__)

AT_ONCE = 4  # hosts: nothing is in a hurry here
PAGE = 500


class HostRegisters:
    """A round compares what the hosts of this node remember with the resources there are. What is forgotten is decided
    by run numbers, which are the same for all nodes, so a node that lost the host meanwhile does no harm."""

    def __init__(self, node: NodeContext, known: KnownHosts, drivers: HostDrivers) -> None:
        self._node, self._known, self._drivers = node, known, drivers

    def start(self) -> None:
        config = self._node.config
        runner = self._node.periodic.every("host.forget", lambda: config.get(FORGET_INTERVAL), self.forget)
        config.on_change(FORGET_INTERVAL, lambda seconds: runner.poke())

    async def forget(self) -> int:
        """One round; how many registers were dropped."""
        floor = await self._node.jobs.floor.read()
        if not floor:
            return 0
        mine = iter([record for record in await self._known.load() if self._concerns(record)])

        async def in_turn() -> int:
            return sum([await self._on(record, floor) for record in mine])

        return sum(await asyncio.gather(*(in_turn() for _ in range(AT_ONCE))))

    def _concerns(self, record: HostRecord) -> bool:
        return record.host.status is HostStatus.CONNECTED and self._node.slots.mine(record.host.uuid)

    async def _on(self, record: HostRecord, floor: int) -> int:
        try:
            return await self._page_by_page(record, floor)
        except ApiError as exc:
            log.info("host %s keeps what it could forget: %s", record.host.uuid, exc)
            return 0

    async def _page_by_page(self, record: HostRecord, floor: int) -> int:
        dropped, after = 0, ""
        while True:
            ended = await self._drivers.ended(record, floor, after=after, limit=PAGE)
            over = await self._node.jobs.floor.over(list(ended), floor)
            if over:
                dropped += await self._drivers.forget(record, floor, {uuid: ended[uuid] for uuid in over})
            if len(ended) < PAGE:
                return dropped
            after = max(ended)
