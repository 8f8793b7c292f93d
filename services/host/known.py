"""The hosts that this node has looked at, in memory: a command must not cost a database read."""

from __future__ import annotations

from mgmtnode.contracts.host import HOST_NOT_CONNECTED, HostStatus
from mgmtnode.db.session import Database
from services.host.repository import HostRecord, HostRepository


class KnownHosts:
    """Copies of rows. They may be stale: a command then goes to where the host was a moment ago, and fails or
    is refused there. Dropped by own writes and by the events of all nodes."""

    def __init__(self, db: Database, hosts: HostRepository) -> None:
        self._db, self._hosts = db, hosts
        self._records: dict[str, HostRecord] = {}
        self._changes = 0

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._records

    async def get(self, uuid: str) -> HostRecord:
        """Raises core.not-found."""
        return self._records.get(uuid) or await self.read(uuid)

    async def connected(self, uuid: str) -> HostRecord:
        """Raises host.not-connected for a host that is out of reach, core.not-found."""
        record = await self.get(uuid)
        if record.host.status is HostStatus.DISCONNECTED:
            record = await self.read(uuid)  # somebody may have connected it, and the event got lost
        if record.host.status is HostStatus.DISCONNECTED:
            raise HOST_NOT_CONNECTED.error(
                f"host {record.host.name} ({record.host.management_ip}) is not connected", resource=uuid
            )
        return record

    async def read(self, uuid: str) -> HostRecord:
        """From the database. Raises core.not-found."""
        changes = self._changes
        record = await self._db.read(lambda tx: self._hosts.record(tx, uuid))
        if changes == self._changes:  # otherwise what was read may be older than the change
            self._records[uuid] = record
        return record

    async def load(self) -> list[HostRecord]:
        """All hosts, from the database."""
        changes = self._changes
        records = await self._db.read(self._hosts.records)
        if changes == self._changes:
            self._records = {record.host.uuid: record for record in records}
        return records

    def forget(self, uuid: str) -> None:
        self._changes += 1
        self._records.pop(uuid, None)
