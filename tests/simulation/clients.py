"""Clients: they ask, ask again under the same key when they hear nothing, hang up, cancel, and remember what they were
promised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from mgmtnode.bus.message import ApiJob
from mgmtnode.contracts.host import EnableHost, MaintainHost
from mgmtnode.contracts.vm import (
    ChangeVmOffering,
    CreateVm,
    DestroyVm,
    MigrateVm,
    PauseVm,
    RebootVm,
    ResumeVm,
    StartVm,
    StopVm,
)
from mgmtnode.errors import ApiError, Category
from mgmtnode.jobs.job import SYSTEM, Job
from mgmtnode.jobs.jobs import Jobs
from mgmtnode.testing.simulation.world import World
from tests.simulation.schedule import Ask, Kind
from tests.simulation.site import GIB, Site

T = TypeVar("T")
AGAIN = (Category.UNAVAILABLE, Category.TIMEOUT)
PAUSE = 0.5
LOOK = 1.0
PATIENCE = 120.0  # seconds a client goes on asking

ACTIONS: dict[Kind, Callable[[str], ApiJob[Any]]] = {
    Kind.START: lambda uuid: StartVm(uuid=uuid),
    Kind.STOP: lambda uuid: StopVm(uuid=uuid),
    Kind.REBOOT: lambda uuid: RebootVm(uuid=uuid),
    Kind.PAUSE: lambda uuid: PauseVm(uuid=uuid),
    Kind.RESUME: lambda uuid: ResumeVm(uuid=uuid),
    Kind.MIGRATE: lambda uuid: MigrateVm(uuid=uuid),
    Kind.RESIZE: lambda uuid: ChangeVmOffering(uuid=uuid, cpu=2, memory=2 * GIB),
    Kind.DESTROY: lambda uuid: DestroyVm(uuid=uuid),
    Kind.MAINTAIN: lambda uuid: MaintainHost(uuid=uuid),
    Kind.ENABLE: lambda uuid: EnableHost(uuid=uuid),
}


@dataclass
class Promise:
    """What a client heard of one request. ``jobs``: the uuids it was told, which must be one."""

    ask: Ask
    key: str
    jobs: set[str] = field(default_factory=set)
    refused: str = ""


class Clients:
    def __init__(self, world: World, site: Site) -> None:
        self._world, self._site = world, site
        self._rng = Random(f"{world.seed} clients")
        self.promises: list[Promise] = []
        self.vms: dict[int, str] = {}

    async def run(self, asks: Sequence[Ask]) -> None:
        """Returns when all clients have got what they wait for, or have given up."""
        by_client: dict[int, list[Ask]] = {}
        for ask in asks:
            by_client.setdefault(ask.client, []).append(ask)
        await asyncio.gather(*(self._client(mine) for mine in by_client.values()))

    async def _client(self, asks: Sequence[Ask]) -> None:
        for number, ask in enumerate(asks):
            await asyncio.sleep(max(0.0, ask.at - self._world.loop.time()))
            message = self._message(ask)
            if message is None:
                continue
            promise = Promise(ask, f"client {ask.client} request {number}")
            self.promises.append(promise)
            await self._ask(promise, message)

    def _message(self, ask: Ask) -> ApiJob[Any] | None:
        if ask.kind is Kind.CREATE:
            return CreateVm(name=f"vm-{ask.of}", cpu=1, memory=GIB, l3_network_uuids=[self._site.network])
        if ask.kind in (Kind.MAINTAIN, Kind.ENABLE):
            return ACTIONS[ask.kind](list(self._site.hosts.values())[ask.of])
        uuid = self.vms.get(ask.of)
        return ACTIONS[ask.kind](uuid) if uuid else None

    async def _ask(self, promise: Promise, message: ApiJob[Any]) -> None:
        copies = [self._accepted(promise, message) for _ in range(1 + promise.ask.twice)]
        answers = await asyncio.gather(*copies)
        job = next((answer for answer in answers if answer is not None), None)
        if job is None:
            return
        if promise.ask.kind is Kind.CREATE:
            self.vms[promise.ask.of] = job.resource_uuid
        if promise.ask.cancel:
            await asyncio.sleep(promise.ask.cancel)
            await self._persist(lambda jobs: jobs.cancel(job.uuid, SYSTEM))
        if not promise.ask.hasty:
            await self._until_ended(job)

    async def _accepted(self, promise: Promise, message: ApiJob[Any]) -> Job | None:
        deadline = promise.ask.deadline or None
        try:
            job = await self._persist(
                lambda jobs: jobs.accept(message, SYSTEM, key=promise.key, deadline=deadline)
            )
        except ApiError as error:
            promise.refused = error.code
            self._world.trace("client", f"{promise.key}: {promise.ask.kind} refused: {error}")
            if error.category is Category.INTERNAL:
                self._world.fail(f"I18 {promise.key} ended in {error.problem}")
            return None
        if job is not None:
            promise.jobs.add(job.uuid)
            self._world.trace("client", f"{promise.key}: {promise.ask.kind} is job {job.uuid[-6:]}")
        return job

    async def _until_ended(self, job: Job) -> None:
        until = self._world.loop.time() + PATIENCE
        while self._world.loop.time() < until:
            now = await self._persist(lambda jobs: jobs.get(job.uuid, SYSTEM))
            if now is None or now.ended:
                return
            await asyncio.sleep(LOOK)

    async def _persist(self, question: Callable[[Jobs], Awaitable[T]]) -> T | None:
        """Asks one node after the other until one answers; None when patience is over. Raises what refuses it."""
        until = self._world.loop.time() + PATIENCE
        while self._world.loop.time() < until:
            name = self._rng.choice(list(self._world.machines))
            try:
                return await self._world.ask(name, lambda node: question(node.parts.context.jobs))
            except ApiError as error:
                if error.category not in AGAIN:
                    raise
            await asyncio.sleep(PAUSE * self._rng.uniform(0.5, 1.5))
        return None
