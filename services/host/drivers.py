"""Talking to hosts through the strategy of their hypervisor, within a time of this service's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.contracts.host import HOST_NOT_CONNECTED
from mgmtnode.contracts.hypervisor import HYPERVISOR_UNKNOWN, HostFacts, HostReport, HypervisorDriver
from mgmtnode.errors import ApiError, from_exception
from mgmtnode.service import NodeContext
from services.host.config import CONNECT_TIMEOUT, PING_TIMEOUT
from services.host.repository import HostRecord

R = TypeVar("R")


class HostDrivers:
    def __init__(self, node: NodeContext) -> None:
        self._node = node

    def of(self, hypervisor: str) -> HypervisorDriver:
        """Raises hypervisor.unknown naming those that are known."""
        known = self._node.extensions.keys(HypervisorDriver)
        if hypervisor not in known:
            raise HYPERVISOR_UNKNOWN.error(
                f"nothing here drives {hypervisor!r}; known are: {', '.join(known) or 'none'}", known=known
            )
        picked: HypervisorDriver = self._node.extensions.pick(HypervisorDriver, hypervisor)
        return picked

    async def connect(self, record: HostRecord) -> HostFacts:
        """Raises host.not-connected when it takes too long, and the errors of the driver."""
        driver = self.of(record.host.hypervisor)
        return await self._timed(record, driver.connect(record.address), CONNECT_TIMEOUT)

    async def report(self, record: HostRecord) -> HostReport:
        """Raises host.not-connected when it takes too long, and the errors of the driver."""
        driver = self.of(record.host.hypervisor)
        return await self._timed(record, driver.report(record.address), PING_TIMEOUT)

    async def ended(self, record: HostRecord, floor: int, *, after: str, limit: int) -> dict[str, int]:
        """Raises host.not-connected when it takes too long, and the errors of the driver."""
        driver = self.of(record.host.hypervisor)
        asked = driver.ended(record.address, floor, after=after, limit=limit)
        return await self._timed(record, asked, PING_TIMEOUT)

    async def forget(self, record: HostRecord, floor: int, registers: dict[str, int]) -> int:
        """Raises host.not-connected when it takes too long, and the errors of the driver."""
        driver = self.of(record.host.hypervisor)
        return await self._timed(record, driver.forget(record.address, floor, registers), PING_TIMEOUT)

    async def disconnect(self, record: HostRecord) -> None:
        """Raises host.not-connected when it takes too long, and the errors of the driver."""
        driver = self.of(record.host.hypervisor)
        await self._timed(record, driver.disconnect(record.address), PING_TIMEOUT)

    async def _timed(self, record: HostRecord, work: Awaitable[R], limit: GlobalConfig[int]) -> R:
        seconds = self._node.config.get(limit)
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError as exc:
            raise _silent(record, seconds) from exc
        except (ApiError, asyncio.CancelledError):
            raise
        except Exception as exc:  # a driver is a plugin: whatever it raises must not end the watch
            raise from_exception(exc) from exc


def _silent(record: HostRecord, seconds: int) -> ApiError:
    host = record.host
    return HOST_NOT_CONNECTED.error(
        f"host {host.name} ({host.management_ip}) has not answered within {seconds} s", resource=host.uuid
    )
