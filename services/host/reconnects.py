"""Connecting hosts again unasked: those that came back, and those that another process connected before."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context

from mgmtnode.contracts.host import HostState, HostStatus, ReconnectHost
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import SYSTEM
from mgmtnode.service import NodeContext
from services.host.config import LOAD_PARALLELISM
from services.host.drivers import HostDrivers
from services.host.known import KnownHosts

log = logging.getLogger(__name__)
LOOK = 60.0  # seconds between looks at a job that takes long


class Reconnects:
    """What waits costs an entry; ``host.load_parallelism`` hosts are connected at once, each by a job. Not
    durable: what is lost with this node, the next owner finds out by itself."""

    def __init__(self, node: NodeContext, known: KnownHosts, drivers: HostDrivers) -> None:
        self._node, self._known, self._drivers = node, known, drivers
        self._waiting: dict[str, bool] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopped = False

    def request(self, uuid: str, *, look_first: bool = False) -> None:
        """``look_first``: a host that is connected, and still says the same of itself, needs no job. Asking
        again while it waits or runs does nothing."""
        if not self._stopped and uuid not in self._running:
            self._waiting.setdefault(uuid, look_first)
            self._fill()

    async def stop(self) -> None:
        self._stopped = True
        self._waiting.clear()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        limit = self._node.config.get(LOAD_PARALLELISM)
        while self._waiting and len(self._running) < limit:
            uuid = next(iter(self._waiting))
            look_first = self._waiting.pop(uuid)
            work = self._connect(uuid, look_first)
            self._running[uuid] = asyncio.get_running_loop().create_task(work, context=Context())

    async def _connect(self, uuid: str, look_first: bool) -> None:
        try:
            if not (look_first and await self._fine(uuid)):
                job = await self._node.jobs.accept(ReconnectHost(uuid=uuid), SYSTEM)
                while not job.ended:
                    job = await self._node.jobs.wait(job.uuid, LOOK)
        except ApiError as exc:
            log.warning("host %s: not connected again: %s", uuid, exc)
        finally:
            del self._running[uuid]
            self._fill()

    async def _fine(self, uuid: str) -> bool:
        """Whether there is nothing for a job to do. A host that does not answer is left to the pings."""
        record = await self._known.get(uuid)
        host = record.host
        if host.status is HostStatus.CONNECTING or host.state is HostState.MAINTENANCE:
            return True  # a job is at it, or its operator is
        if host.status is HostStatus.DISCONNECTED:
            return False
        facts = await self._drivers.connect(record)
        said = (facts.identity, facts.cpu, facts.memory, facts.version)
        return said == (record.identity, host.cpu, host.memory, host.version)
