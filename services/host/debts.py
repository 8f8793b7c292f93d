"""What failed undos left on hosts: read, settled, and asked for again and again until it is gone."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from mgmtnode.contracts.host import CLEANUP_DEBT, CleanupDebt, HostStatus, SettleDebt
from mgmtnode.contracts.vm import VM
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND, ApiError
from mgmtnode.jobs import ledger
from mgmtnode.jobs.job import SYSTEM, Job, JobState
from mgmtnode.service import NodeContext
from services.host.config import DEBT_INTERVAL
from services.host.known import KnownHosts

log = logging.getLogger(__name__)

AT_ONCE = 10
LOOKED_AT = 10_000  # debts in one round, the oldest first
WAIT = 60.0  # seconds; a settlement that takes longer is looked at in a later round
LONGEST_PAUSE = 3600.0


class HostDebts:
    def __init__(self, node: NodeContext) -> None:
        self._node = node

    def all(self, tx: Tx, limit: int) -> list[CleanupDebt]:
        """The oldest ones."""
        return self._node.query.find(tx, CLEANUP_DEBT, sort="created_at", limit=limit)

    def owed(self, tx: Tx, host_uuid: str, resource_uuid: str) -> bool:
        where = (f"host_uuid={host_uuid}", f"resource_uuid={resource_uuid}")
        return bool(self._node.query.find(tx, CLEANUP_DEBT, *where))

    def of_host(self, tx: Tx, host_uuid: str) -> list[CleanupDebt]:
        return self._node.query.find(tx, CLEANUP_DEBT, f"host_uuid={host_uuid}")

    def lives_there(self, tx: Tx, host_uuid: str, resource_uuid: str) -> bool:
        """Whether the database has the VM on that host."""
        if "vm" not in self._node.manifests:
            return False
        return bool(self._node.query.find(tx, VM, f"uuid={resource_uuid}", f"host_uuid={host_uuid}"))

    def lost(self, tx: Tx, resource_uuid: str) -> bool:
        """Whether nobody knows yet where the VM is: then it may be the VM itself that would be destroyed."""
        if "vm" not in self._node.manifests:
            return False
        return bool(self._node.query.find(tx, VM, f"uuid={resource_uuid}", "state=Unknown"))

    def settle(self, tx: Tx, host_uuid: str, resource_uuid: str, *, keep: bool = False) -> None:
        """The host owes nothing for the resource any more. ``keep``: what it holds there stays its own.

        With its last debt, the rest that was kept back is free, or the resource's own again if it lives; but not what
        it held of hosts that it has left since.
        """
        if not self.owed(tx, host_uuid, resource_uuid):
            return
        if not keep:
            ledger.settle(tx, resource_uuid, pool_uuid=host_uuid)
        if ledger.drop_debt(tx, host_uuid, resource_uuid):
            return
        if resource.type_of(tx, resource_uuid) is None:
            ledger.settle(tx, resource_uuid)
            return
        for host in self._left(tx, resource_uuid):
            ledger.settle(tx, resource_uuid, pool_uuid=host)
        ledger.restore(tx, resource_uuid)

    def _left(self, tx: Tx, resource_uuid: str) -> list[str]:
        """The hosts of which the resource holds something, and where it is not."""
        pools = sorted({pool for pool, _ in ledger.held(tx, resource_uuid)})
        hosts = [pool for pool in pools if resource.type_of(tx, pool) == "host"]
        return [host for host in hosts if not self.lives_there(tx, host, resource_uuid)]


@dataclass(slots=True)
class Attempt:
    """``job``: the settlement that has not ended; ``failures`` so far, and when to try again (loop time)."""

    job: str = ""
    failures: int = 0
    after: float = 0.0


class DebtCollector:
    """Has the debts of this node's hosts settled, again and again, for as long as they are there."""

    def __init__(self, node: NodeContext, known: KnownHosts, debts: HostDebts) -> None:
        self._node, self._known, self._debts = node, known, debts
        self._attempts: dict[str, Attempt] = {}

    def start(self) -> None:
        config = self._node.config
        runner = self._node.periodic.every("host.debts", lambda: config.get(DEBT_INTERVAL), self.collect)
        config.on_change(DEBT_INTERVAL, lambda seconds: runner.poke())

    async def collect(self) -> None:
        """One round over the debts there are."""
        found = await self._node.db.read(lambda tx: self._debts.all(tx, LOOKED_AT))
        self._attempts = {d.uuid: self._attempts[d.uuid] for d in found if d.uuid in self._attempts}
        mine = [debt for debt in found if self._node.slots.mine(debt.host_uuid)]
        left = iter(mine)

        async def in_turn() -> None:
            for debt in left:
                await self._try(debt)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(mine))):
                group.create_task(in_turn())

    async def _try(self, debt: CleanupDebt) -> None:
        attempt = self._attempts.setdefault(debt.uuid, Attempt())
        if asyncio.get_running_loop().time() < attempt.after:
            return
        try:
            await self._settle(debt, attempt)
        except ApiError as exc:
            self._put_off(debt, attempt, str(exc))

    async def _settle(self, debt: CleanupDebt, attempt: Attempt) -> None:
        if attempt.job:
            job = await self._node.jobs.wait(attempt.job, 0)
        elif await self._reachable(debt):
            message = SettleDebt(resource_uuid=debt.resource_uuid, host_uuid=debt.host_uuid)
            job = await self._node.jobs.accept(message, SYSTEM)
            attempt.job = job.uuid
            job = await self._node.jobs.wait(job.uuid, WAIT)
        else:
            return
        if job.ended:
            self._ended(debt, attempt, job)

    def _ended(self, debt: CleanupDebt, attempt: Attempt, job: Job) -> None:
        attempt.job = ""
        if job.state is not JobState.SUCCEEDED:
            self._put_off(debt, attempt, job.error.message if job.error else str(job.state))

    def _put_off(self, debt: CleanupDebt, attempt: Attempt, why: str) -> None:
        log.warning("host %s still owes to clean up %s: %s", debt.host_uuid, debt.resource_uuid, why)
        pause = min(LONGEST_PAUSE, self._node.config.get(DEBT_INTERVAL) * 2.0**attempt.failures)
        attempt.failures = min(attempt.failures + 1, 16)
        attempt.after = asyncio.get_running_loop().time() + pause

    async def _reachable(self, debt: CleanupDebt) -> bool:
        """Whether the host can be asked. A host that is no more owes nothing."""
        try:
            record = await self._known.get(debt.host_uuid)
        except ApiError as exc:
            if exc.code != NOT_FOUND.id:
                raise
            await self._node.db.write(lambda tx: self._debts.settle(tx, debt.host_uuid, debt.resource_uuid))
            return False
        return record.host.status is HostStatus.CONNECTED
