"""Clients: they ask, ask again under the same key when they hear nothing, hang up, cancel, and remember what they were
promised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from mgmtnode.bus.message import ApiJob
from mgmtnode.contracts.config import UpdateGlobalConfig
from mgmtnode.contracts.host import DeleteHost, DisableHost, EnableHost, MaintainHost, ReconnectHost
from mgmtnode.contracts.vm import (
    AttachNic,
    ChangeVmOffering,
    CreateVm,
    DestroyVm,
    DetachNic,
    ExpungeVm,
    MigrateVm,
    PauseVm,
    RebootVm,
    RecoverVm,
    ResumeVm,
    StartVm,
    StopVm,
)
from mgmtnode.contracts.zone import DeleteZone
from mgmtnode.errors import ApiError, Category
from mgmtnode.jobs.job import SYSTEM, Job
from mgmtnode.jobs.jobs import Jobs
from mgmtnode.testing.simulation.world import World
from tests.simulation.schedule import HOST_KINDS, OPTIONS, Ask, Kind
from tests.simulation.site import GIB, Site, host

T = TypeVar("T")
AGAIN = (Category.UNAVAILABLE, Category.TIMEOUT)
PAUSE = 0.5
LOOK = 1.0
TRIES = 5
OPERATOR = 200
AWAY = "state IN ('Maintenance', 'PreMaintenance')"
PATIENCE = 120.0  # seconds a client goes on asking

ACTIONS: dict[Kind, Callable[[str], ApiJob[Any]]] = {
    Kind.REBOOT: lambda uuid: RebootVm(uuid=uuid),
    Kind.PAUSE: lambda uuid: PauseVm(uuid=uuid),
    Kind.RESUME: lambda uuid: ResumeVm(uuid=uuid),
    Kind.RESIZE: lambda uuid: ChangeVmOffering(uuid=uuid, cpu=2, memory=2 * GIB),
    Kind.RECOVER: lambda uuid: RecoverVm(uuid=uuid),
    Kind.EXPUNGE: lambda uuid: ExpungeVm(uuid=uuid),
    Kind.MAINTAIN: lambda uuid: MaintainHost(uuid=uuid),
    Kind.ENABLE: lambda uuid: EnableHost(uuid=uuid),
    Kind.DISABLE: lambda uuid: DisableHost(uuid=uuid),
    Kind.RECONNECT: lambda uuid: ReconnectHost(uuid=uuid),
    Kind.REMOVE: lambda uuid: DeleteHost(uuid=uuid),
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
        self.hosts = list(site.hosts.values())

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

    async def enable_again(self) -> None:
        """Hosts that operators wanted to work again, where that failed: what such a host owes is not cleaned up before.
        Asked for with everything in order."""
        for of in sorted({p.ask.of for p in self.promises if p.ask.kind is Kind.ENABLE}):
            for number in range(TRIES):
                if not self._world.server.rows(
                    f"SELECT 1 FROM host WHERE uuid = ? AND {AWAY}", self.hosts[of]
                ):
                    break
                ask = Ask(at=self._world.loop.time(), client=OPERATOR, kind=Kind.ENABLE, of=of)
                self.promises.append(Promise(ask, f"operator enables host-{of + 1} again {number}"))
                await self._ask(self.promises[-1], EnableHost(uuid=self.hosts[of]))

    def _message(self, ask: Ask) -> ApiJob[Any] | None:
        """None if what it is about was never there."""
        if ask.kind is Kind.RAZE:
            return DeleteZone(uuid=self._site.zone)
        if ask.kind is Kind.CONFIGURE:
            name, value = OPTIONS[ask.of]
            return UpdateGlobalConfig(uuid=self._site.configs[name], value=value)
        if ask.kind is Kind.ADD:
            return host(f"host-{ask.of + 1}", self._site.cluster)
        if ask.kind in HOST_KINDS:
            return ACTIONS[ask.kind](self.hosts[ask.of])
        if ask.kind is Kind.CREATE:
            return self._create(ask)
        uuid = self.vms.get(ask.of)
        return self._of_vm(ask, uuid) if uuid else None

    def _create(self, ask: Ask) -> CreateVm:
        return CreateVm(
            name=f"vm-{ask.of}",
            cpu=1,
            memory=GIB,
            l3_network_uuids=[self._site.network],
            host_uuid=self.hosts[ask.host] if ask.how == "to" else None,
            start=ask.how != "stopped",
        )

    def _of_vm(self, ask: Ask, uuid: str) -> ApiJob[Any] | None:
        to, force = self.hosts[ask.host] if ask.how == "to" else None, ask.how == "force"
        match ask.kind:
            case Kind.START:
                return StartVm(uuid=uuid, host_uuid=to)
            case Kind.MIGRATE:
                return MigrateVm(uuid=uuid, host_uuid=to)
            case Kind.STOP:
                return StopVm(uuid=uuid, force=force)
            case Kind.DESTROY:
                return DestroyVm(uuid=uuid, force=force)
            case Kind.ATTACH:
                return AttachNic(uuid=uuid, l3_network_uuid=self._site.network)
            case Kind.DETACH:
                nics = self._world.server.rows("SELECT uuid FROM nic WHERE vm_uuid = ? ORDER BY uuid", uuid)
                return DetachNic(uuid=uuid, nic_uuid=nics[-1][0]) if nics else None
            case _:
                return ACTIONS[ask.kind](uuid)

    async def _ask(self, promise: Promise, message: ApiJob[Any]) -> None:
        copies = [self._accepted(promise, message) for _ in range(1 + promise.ask.twice)]
        answers = await asyncio.gather(*copies)
        job = next((answer for answer in answers if answer is not None), None)
        if job is None:
            return
        if promise.ask.kind is Kind.CREATE:
            self.vms[promise.ask.of] = job.resource_uuid
        elif promise.ask.kind is Kind.ADD:
            self.hosts[promise.ask.of] = job.resource_uuid
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
