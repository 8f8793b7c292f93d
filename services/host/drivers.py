"""Talking to hosts through the strategy of their hypervisor, within a time of this service's own."""

from __future__ import annotations

import asyncio

from mgmtnode.contracts.host import HOST_NOT_CONNECTED
from mgmtnode.contracts.hypervisor import HYPERVISOR_UNKNOWN, HostFacts, HostReport, HypervisorDriver
from mgmtnode.errors import ApiError
from mgmtnode.service import NodeContext
from services.host.config import CONNECT_TIMEOUT, PING_TIMEOUT
from services.host.repository import HostRecord


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
        picked: HypervisorDriver = self._node.extensions.pick(HypervisorDriver, hypervisor)  # type: ignore[type-abstract]
        return picked

    async def connect(self, record: HostRecord) -> HostFacts:
        """Raises host.not-connected when it takes too long, and the errors of the driver."""
        limit = self._node.config.get(CONNECT_TIMEOUT)
        try:
            async with asyncio.timeout(limit):
                return await self.of(record.host.hypervisor).connect(record.address)
        except TimeoutError as exc:
            raise _silent(record, limit) from exc

    async def report(self, record: HostRecord) -> HostReport:
        """Raises host.not-connected when it takes too long, and the errors of the driver."""
        limit = self._node.config.get(PING_TIMEOUT)
        try:
            async with asyncio.timeout(limit):
                return await self.of(record.host.hypervisor).report(record.address)
        except TimeoutError as exc:
            raise _silent(record, limit) from exc

    async def disconnect(self, record: HostRecord) -> None:
        limit = self._node.config.get(PING_TIMEOUT)
        try:
            async with asyncio.timeout(limit):
                await self.of(record.host.hypervisor).disconnect(record.address)
        except TimeoutError as exc:
            raise _silent(record, limit) from exc


def _silent(record: HostRecord, seconds: int) -> ApiError:
    host = record.host
    return HOST_NOT_CONNECTED.error(
        f"host {host.name} ({host.management_ip}) has not answered within {seconds} s", resource=host.uuid
    )
