"""Tells the ends of jobs to those who asked for them over AMQP, whatever became of the node that they asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from mgmtnode.api.amqp import replies, repository
from mgmtnode.api.amqp.outlet import Fate, Outgoing
from mgmtnode.api.amqp.repository import Owed
from mgmtnode.api.amqp.request import Address
from mgmtnode.api.problems import TOO_MANY_REPLIES
from mgmtnode.db.session import Database
from mgmtnode.jobs.ending import JobEnded
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.ring.slots import Slots

SWEEP_SECONDS = 2.0
AT_ONCE = 200
MOST_KNOWN = 50_000
MOST_ADDRESSES = 16


class Sender(Protocol):
    """The part of ``outlet.Outlet`` that this needs."""

    connected: bool

    async def send(self, messages: Sequence[Outgoing]) -> list[Fate]: ...


class Ends:
    """Whom to tell is a row beside the job, written in the transaction that accepts it and deleted when the broker
    has the message; so an end is told at least once.

    The node that accepted a job tells its end as soon as it hears of it. If it does not (it died, its broker is
    away, it did not hear), the owner of the job's resource finds the row in two sweeps.
    """

    def __init__(
        self,
        db: Database,
        slots: Slots,
        jobs: JobRepository,
        sender: Sender,
        *,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._db, self._slots, self._jobs, self._sender = db, slots, jobs, sender
        self._sweep_seconds = sweep_seconds
        self._accepted: dict[str, None] = {}
        self._ended: dict[str, None] = {}
        self._seen: set[Owed] = set()
        self._sweep_at = 0.0
        self._wake = asyncio.Event()

    def owe(self, tx: Any, job_uuid: str, address: Address) -> None:
        """In the accepting transaction. Raises api.too-many-replies."""
        if repository.kept(tx, job_uuid) >= MOST_ADDRESSES:
            text = f"{MOST_ADDRESSES} reply queues wait for this job already"
            raise TOO_MANY_REPLIES.error(text, resource=job_uuid)
        repository.keep(tx, job_uuid, address)
        tx.after_commit(lambda: self._expect(job_uuid))

    def _expect(self, job_uuid: str) -> None:
        self._accepted[job_uuid] = None
        if len(self._accepted) > MOST_KNOWN:
            del self._accepted[next(iter(self._accepted))]  # the sweeps have it

    def heard(self, event: JobEnded) -> None:
        if event.resource_uuid in self._accepted:
            self._ended[event.resource_uuid] = None
            self._wake.set()

    async def turn(self) -> None:
        """Waits for the next end or sweep, and tells what there is."""
        loop = asyncio.get_running_loop()
        await self._until(self._sweep_at)
        uuids = list(self._ended)[:AT_ONCE]
        if uuids:
            await self._tell(await self._db.read(lambda tx: repository.owed(tx, AT_ONCE, uuids)))
            for uuid in uuids:
                self._ended.pop(uuid, None)
        if loop.time() >= self._sweep_at:
            self._sweep_at = loop.time() + self._sweep_seconds
            if self._sender.connected:
                await self._sweep()

    async def _until(self, when: float) -> None:
        if not self._ended:
            self._wake.clear()
            try:
                async with asyncio.timeout_at(when):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _sweep(self) -> None:
        found = await self._db.read(lambda tx: repository.owed(tx, AT_ONCE))
        late = [one for one in found if self._is_ours(one)]
        self._seen = set(found)
        await self._tell(late)

    def _is_ours(self, one: Owed) -> bool:
        if one.job_uuid in self._accepted:
            return True
        # The acceptor gets the time between two sweeps to tell it first. No clock of another machine is asked.
        return one in self._seen and self._slots.mine(one.resource_uuid)

    async def _tell(self, owed: Sequence[Owed]) -> None:
        if not owed:
            return
        uuids = [one.job_uuid for one in owed]
        jobs = await self._db.read(lambda tx: self._jobs.views(tx, uuids))
        there = [one for one in owed if one.job_uuid in jobs]
        messages = [replies.ended(jobs[one.job_uuid]).to(one.address) for one in there]
        fates = await self._sender.send(messages)
        told = [one for one, fate in zip(there, fates, strict=True) if fate is not Fate.UNSENT]
        await self._db.write(lambda tx: repository.drop(tx, told))
        for one in told:
            self._accepted.pop(one.job_uuid, None)
