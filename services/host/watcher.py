"""Watching the hosts of this node's slots: who answers, who no longer does, who is back, what runs there."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from mgmtnode.contracts.host import HostDisconnected, HostState, HostStatus
from mgmtnode.contracts.hypervisor import HostReport
from mgmtnode.db.patience import EVER, outlast
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND, ApiError
from mgmtnode.service import NodeContext
from mgmtnode.tasks.periodic import Runner
from services.host.config import (
    AUTO_RECONNECT,
    PING_FAILURES,
    PING_INTERVAL,
    PING_PARALLELISM,
    UNKNOWN_AFTER,
    VM_SYNC_INTERVAL,
)
from services.host.drivers import HostDrivers
from services.host.known import KnownHosts
from services.host.reconnects import Reconnects
from services.host.reports import LEAVING, HostReports
from services.host.repository import HostRecord, HostRepository
from services.host.rounds import Rounds

log = logging.getLogger(__name__)

RETRY = 1.0  # seconds from a failed ping to the next, until the host counts as disconnected
TAKE_OVER_SECONDS = 300.0  # a slot that moves is noticed at once; this is for events that got lost
SEEN_SECONDS = 300.0
JITTER = 0.1

Digest = frozenset[tuple[str, str]]


@dataclass(slots=True)
class Watch:
    """What is remembered of one host between pings. ``silent_since``: when it was first seen disconnected;
    ``told`` and ``told_at``: the last report passed on; ``commands``: how many were sent there, ``covered``:
    how many of them that report knows of."""

    failures: int = 0
    silent_since: float | None = None
    told_unknown: bool = False
    told: Digest | None = None
    told_at: float = 0.0
    commands: int = 0
    covered: int = 0


class HostWatcher:
    """Pings write to the database only when a status changes, and now and then when hosts were last seen."""

    def __init__(
        self,
        node: NodeContext,
        *,
        hosts: HostRepository,
        known: KnownHosts,
        reports: HostReports,
        drivers: HostDrivers,
    ) -> None:
        self._node, self._hosts, self._known = node, hosts, known
        self._reports, self._drivers = reports, drivers
        self.reconnects = Reconnects(node, known, drivers)
        self.rounds = Rounds(self._visit, lambda: node.config.get(PING_PARALLELISM))
        self._watches: dict[str, Watch] = {}
        self._seen: set[str] = set()
        self._taking_over: Runner | None = None

    def start(self) -> None:
        """Begins to watch, and to connect what this node has taken over, without waiting for it."""
        periodic = self._node.periodic
        self.rounds.start()
        self._taking_over = periodic.every("host.take_over", TAKE_OVER_SECONDS, self.take_over, at_once=True)
        periodic.every("host.seen", SEEN_SECONDS, self.write_seen)
        self._node.config.on_change(PING_INTERVAL, lambda seconds: self.rounds.within(self._spread))

    def look(self) -> None:
        """Slots have moved: soon looks which hosts are this node's."""
        if self._taking_over is not None:
            self._taking_over.poke()

    async def stop(self) -> None:
        await self.rounds.stop()
        await self.reconnects.stop()

    async def take_over(self) -> None:
        """Looks which hosts are this node's: new ones are watched and connected, others left alone. A database that is
        away only puts it off: until the next round, nobody would watch them."""
        records = await outlast(self._known.load, EVER)
        mine = dict.fromkeys(r.host.uuid for r in records if self._node.slots.mine(r.host.uuid))
        for uuid in [uuid for uuid in self.rounds if uuid not in mine]:
            self.drop(uuid)
        for uuid in mine:
            if uuid not in self.rounds:
                self.watch(uuid)
                self.reconnects.request(uuid, look_first=True)

    async def write_seen(self) -> None:
        seen, self._seen = self._seen, set()
        if seen:
            await self._node.db.write(lambda tx: self._hosts.seen(tx, sorted(seen)))

    def watch(self, uuid: str) -> None:
        """Pings the host from some time within the next interval on, if it is this node's."""
        if self._node.slots.mine(uuid):
            self.rounds.add(uuid, self._spread())

    def drop(self, uuid: str) -> None:
        self.rounds.remove(uuid)
        self._watches.pop(uuid, None)

    def failures(self, uuid: str) -> int:
        """Pings of the host that failed in a row."""
        watch = self._watches.get(uuid)
        return watch.failures if watch else 0

    def commanded(self, uuid: str) -> None:
        """A command was sent there: what it reports next is news even if it looks the same."""
        if watch := self._watches.get(uuid):
            watch.commands += 1

    async def _visit(self, uuid: str) -> float | None:
        """One ping. Answers in how many seconds the next one is."""
        if not self._node.slots.mine(uuid):
            self._watches.pop(uuid, None)
            return None
        try:
            record = await self._known.get(uuid)
        except ApiError as exc:
            if exc.code != NOT_FOUND.id:
                raise
            return None
        if record.host.status is HostStatus.CONNECTING:
            return self._interval()
        watch = self._watches.setdefault(uuid, Watch())
        commands = watch.commands
        try:
            report = await self._drivers.report(record)
        except ApiError as exc:
            return await self._failed(record, watch, exc)
        watch.failures = 0
        self._seen.add(uuid)
        if self._is_back(record, report):
            return self._interval()
        watch.silent_since, watch.told_unknown = None, False
        await self._pass_on(record, watch, report, commands)
        return self._interval()

    async def _failed(self, record: HostRecord, watch: Watch, why: ApiError) -> float:
        watch.failures += 1
        if record.host.status is HostStatus.CONNECTED:
            if watch.failures < self._node.config.get(PING_FAILURES):
                return RETRY
            if not await self._node.db.write(lambda tx: self._disconnect(tx, record, why.problem.message)):
                return RETRY
            log.warning("host %s (%s) is disconnected: %s", record.host.name, record.host.uuid, why)
        return await self._silent(record, watch)

    def _disconnect(self, tx: Tx, record: HostRecord, reason: str) -> bool:
        uuid = record.host.uuid
        tx.after_commit(lambda: self._known.forget(uuid))
        if not self._hosts.disconnected(tx, uuid):
            return False
        tx.record(HostDisconnected(resource_uuid=uuid, reason=reason))
        return True

    async def _silent(self, record: HostRecord, watch: Watch) -> float:
        """A disconnected host: after the grace period its VMs are unknown."""
        now = asyncio.get_running_loop().time()
        if watch.silent_since is None:
            watch.silent_since = now
        left = watch.silent_since + self._node.config.get(UNKNOWN_AFTER) - now
        if watch.told_unknown or record.host.state in LEAVING:
            return self._interval()
        if left > 0:
            return min(left, self._interval())
        watch.told = None
        watch.told_unknown = await self._reports.unknown(record)
        return self._interval()

    def _is_back(self, record: HostRecord, report: HostReport) -> bool:
        """Whether it has to be connected again: it was away, or somebody else answers in its place."""
        host = record.host
        if host.status is not HostStatus.DISCONNECTED and report.identity == record.identity:
            return False
        if host.state is not HostState.MAINTENANCE and self._node.config.get(AUTO_RECONNECT):
            self.reconnects.request(host.uuid)
        return True

    async def _pass_on(self, record: HostRecord, watch: Watch, report: HostReport, commands: int) -> None:
        if record.host.state in LEAVING:
            watch.told = None
            return
        now = asyncio.get_running_loop().time()
        digest = frozenset((vm.uuid, str(vm.power)) for vm in report.vms)
        fresh = now - watch.told_at < self._node.config.get(VM_SYNC_INTERVAL)
        if digest == watch.told and watch.covered == commands and fresh:
            return
        if await self._reports.tell(record, report):
            watch.told, watch.told_at, watch.covered = digest, now, commands

    def _spread(self) -> float:
        """Some time within the interval: pings of many hosts are not sent at once."""
        return self._node.rng.uniform(0.0, float(self._node.config.get(PING_INTERVAL)))

    def _interval(self) -> float:
        return self._node.config.get(PING_INTERVAL) * self._node.rng.uniform(1 - JITTER, 1 + JITTER)
