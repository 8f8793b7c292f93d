"""The management node: builds its parts in order, boots, drains, stops. Read this first.

    configuration → locks → database → schema → membership → services and settings → bus → jobs → services start
    → API

A part that has started is stopped again, in reverse, when a later one fails or when the node is told to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

from mgmtnode import __version__
from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.port import Agents
from mgmtnode.agents.watched import WatchedAgents
from mgmtnode.api.app import HttpApi
from mgmtnode.api.application import TOKEN, http_api
from mgmtnode.api.auth import Authenticator
from mgmtnode.bus.bus import Bus
from mgmtnode.bus.memory import Hub
from mgmtnode.bus.transport import Transport, address_of
from mgmtnode.cluster.guard import LOCK_KEY, Guard
from mgmtnode.cluster.membership import Membership
from mgmtnode.config import core_properties as core
from mgmtnode.config.file import Properties
from mgmtnode.db.engine import open_database, sqlite_file
from mgmtnode.db.lock import DirectoryLock
from mgmtnode.db.schema import told, upgrade
from mgmtnode.db.session import SqlDatabase
from mgmtnode.db.session_lock import SessionLock, label
from mgmtnode.errors import UNAVAILABLE, ApiError, Category
from mgmtnode.jobs.start import start_runner
from mgmtnode.loader import discover, require
from mgmtnode.parts import Edges, Parts, assemble, declare_properties, show_node
from mgmtnode.ports import Clock, Rng, SystemClock, SystemRng, UuidSource
from mgmtnode.ring.slots import Slots
from mgmtnode.service import Service, ServiceManifest
from mgmtnode.telemetry import logs
from mgmtnode.telemetry.families import LOOP_LAG
from mgmtnode.telemetry.loop_lag import LoopLag
from mgmtnode.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

BOOT_PAUSE = 1.0  # seconds between looks at a database or broker that is away at boot
SWEEP_SECONDS = 2.0
FORGET_SECONDS = 3600.0
EVENT_RETENTION = timedelta(days=7)
EVICTED = 75  # exit code: whoever supervises the node may start it again
STOP_EVICTED_SECONDS = 10.0
Stop = Callable[[], Awaitable[None]]


class ManagementNode:
    """One node. ``start`` returns when it serves; ``stop`` drains and ends it. Not restartable: make a new one."""

    def __init__(
        self,
        properties: Properties,
        manifests: Sequence[ServiceManifest],
        *,
        clock: Clock | None = None,
        rng: Rng | None = None,
        agents: Agents | None = None,
    ) -> None:
        self._properties, self._manifests = properties, manifests
        self._clock, self._rng = clock or SystemClock(), rng or SystemRng()
        self.telemetry = Telemetry(self._clock)
        self._agents = WatchedAgents(agents or LocalAgents(), self.telemetry)
        self.name = properties.get(core.NODE_NAME) or socket.gethostname()
        self.slots = Slots(self.name)
        self._stops: list[tuple[str, Stop]] = []
        self.waiting_for = ""
        self.guard: Guard | None = None
        self._process = f"{self._rng.bits(32):08x}"
        self.db: SqlDatabase
        self.membership: Membership
        self.parts: Parts
        self.bus: Bus
        self.api: HttpApi

    async def start(self) -> None:
        """Boots part by part. When one fails, those before it are stopped again and its error is raised."""
        steps: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
            ("the configuration", self._read_configuration),
            ("the data directory", self._lock),
            ("the database", self._open_database),
            ("another node on the database", self._stand_alone),
            ("the schema", self._upgrade),
            ("membership", self._join),
            ("the services", self._build),
            ("the settings", self._load_settings),
            ("the bus", self._start_bus),
            ("the jobs", self._start_jobs),
            ("the services to start", self._start_services),
            ("the API", self._start_api),
        )
        try:
            for name, step in steps:
                self.waiting_for = name
                log.debug("starting: %s", name)
                await step()
        except BaseException:
            log.debug("could not start: %s", self.waiting_for)  # whoever started it tells why, once
            await self.stop()
            raise
        self.waiting_for = ""

    async def stop(self) -> None:
        """Stops what was started, last first. A part that fails to stop does not keep the others from it."""
        while self._stops:
            name, stop = self._stops.pop()
            self.waiting_for = name
            log.debug("stopping: %s", name)
            try:
                await stop()
            except Exception:
                log.exception("%s did not stop cleanly", name)

    # the parts, in the order they start

    async def _read_configuration(self) -> None:
        """First, because a node with a typo in its configuration must not touch what others use."""
        declare_properties(self._manifests, self._properties)
        require(self._manifests, Authenticator, TOKEN, "nobody could log in")
        for unused in (core.BUS_URL, core.REDIS_URL):
            if self._properties.get(unused):
                log.warning("%s is set, but not used: this release runs one node at a time", unused.name)

    async def _lock(self) -> None:
        directory = self.data_dir
        directory.mkdir(parents=True, exist_ok=True)
        if file := sqlite_file(self.database_url):
            lock = DirectoryLock(file.parent)
            lock.take()
            self._on_stop("the data directory", _later(lock.release))

    async def _open_database(self) -> None:
        connections = self._properties.get(core.DATABASE_CONNECTIONS)
        called = label(self.name, self._process)
        self.db = open_database(
            self.database_url, self._clock, label=called, connections=connections, telemetry=self.telemetry
        )
        self._on_stop("the database", self.db.close)

    async def _stand_alone(self) -> None:
        if self.db.dialect == "sqlite":
            return  # the lock on its directory is enough
        self.guard = Guard(SessionLock(self.db, LOCK_KEY, label(self.name, self._process, "guard")))
        self._on_stop("the guard", self.guard.stop)
        await self._until_there("the database", self.guard.enter)

    async def _upgrade(self) -> None:
        await self._until_there("the database", lambda: asyncio.to_thread(upgrade, self.db, self._manifests))

    async def _join(self) -> None:
        address = (
            self._properties.get(core.NODE_ADDRESS) or f"{self.name}:{self._properties.get(core.API_PORT)}"
        )
        uuids = UuidSource(self._clock, self._rng)
        self.membership = Membership(
            self.db, self.slots, uuids, name=self.name, address=address, version=__version__
        )
        self._on_stop("membership", self.membership.leave)
        await self._until_there("the database", self.membership.join)
        if self.guard is not None:
            self.guard.watch(self.membership.evicted)

    async def _build(self) -> None:
        self.bus = Bus(
            self.name,
            self.slots,
            self._transport(),
            clock=self._clock,
            rng=self._rng,
            telemetry=self.telemetry,
        )
        edges = Edges(
            name=self.name,
            incarnation=self.membership.incarnation,
            clock=self._clock,
            rng=self._rng,
            db=self.db,
            bus=self.bus,
            slots=self.slots,
            agents=self._agents,
            properties=self._properties,
            telemetry=self.telemetry,
        )
        self.parts = assemble(self._manifests, edges)

    async def _load_settings(self) -> None:
        await self.parts.context.config.load(self.db)

    async def _start_bus(self) -> None:
        self.bus.on_hint(self.parts.context.jobs.hinted)
        await self.bus.start()
        self._on_stop("the bus", self.bus.stop)

    async def _start_jobs(self) -> None:
        parts, jobs = self.parts, self.parts.context.jobs
        runner = start_runner(
            jobs,
            self.db,
            clock=self._clock,
            config=parts.context.config,
            tags=parts.context.tags,
            specs=parts.specs,
            repository=parts.repository,
            node=self.name,
            incarnation=self.membership.incarnation,
        )
        self._on_stop("the jobs", lambda: runner.drain(self.drain_seconds))

    async def _start_services(self) -> None:
        for manifest, service in self.parts.services:
            await service.start()
            self._on_stop(f"the service {manifest.id}", _stopper(service))
        lag = LoopLag(lambda seconds: self.telemetry.metrics.observe(LOOP_LAG, seconds))
        lag.start()
        self._on_stop("the loop's watch", _later(lag.stop))
        periodic, jobs = self.parts.context.periodic, self.parts.context.jobs
        self._on_stop("the periodic work", periodic.stop)
        periodic.every("jobs.sweep", SWEEP_SECONDS, jobs.sweep, at_once=True)
        periodic.every("jobs.forget", FORGET_SECONDS, jobs.forget)
        periodic.every("events.forget", FORGET_SECONDS, self._forget_events)

    async def _start_api(self) -> None:
        checks = {"database": self._check_database, "bus": self._check_bus}
        show_node(self.telemetry.metrics, self.name, self.parts.context)
        self.api = http_api(self.parts, self._properties, checks, self.telemetry, self._rng)
        await self.api.start()
        self._on_stop("the API", self.api.stop)

    async def _until_there(self, what: str, attempt: Callable[[], Awaitable[object]]) -> None:
        """Makes ``attempt`` again for node.boot_seconds as long as it says that ``what`` is away; of a file only once,
        because a full disk or a missing permission does not mend itself."""
        seconds, told_of = self._properties.get(core.BOOT_SECONDS), ""
        until = self._clock.monotonic() + seconds
        while True:
            try:
                with told(self.db):
                    await attempt()
                return
            except ApiError as error:
                if error.category is not Category.UNAVAILABLE or self.db.dialect == "sqlite":
                    raise
                why = error.problem.message
            if self._clock.monotonic() + BOOT_PAUSE >= until:
                raise UNAVAILABLE.error(f"{what} was away for {seconds:g} s: {why}")
            if why != told_of:
                log.warning(
                    "waiting for %s, for up to %.0f s: %s", what, until - self._clock.monotonic(), why
                )
                told_of = why
            await asyncio.sleep(BOOT_PAUSE)

    # what they are made of

    @property
    def host(self) -> str:
        """The address the API listens on."""
        return self._properties.get(core.API_HOST)

    @property
    def data_dir(self) -> Path:
        return Path(self._properties.get(core.DATA_DIR))

    @property
    def database_url(self) -> str:
        return self._properties.get(core.DATABASE_URL) or f"sqlite:///{self.data_dir / 'mgmtnode.db'}"

    @property
    def evicted(self) -> bool:
        """Another node took over: nothing that this one still does is accepted."""
        return self.guard is not None and self.guard.lost.is_set()

    @property
    def drain_seconds(self) -> float:
        return 0.0 if self.evicted else self._properties.get(core.DRAIN_SECONDS)

    def _transport(self) -> Transport:
        address = address_of(self.name, self.membership.incarnation)
        return Hub().transport(address)

    async def _check_database(self) -> str | None:
        await self.db.read(lambda tx: tx.ping())
        return None

    async def _check_bus(self) -> str | None:
        return None if self.bus.transport.healthy else "the broker cannot be reached"

    async def _forget_events(self) -> None:
        await self.parts.events.forget(self._clock.now() - EVENT_RETENTION)

    def _on_stop(self, name: str, stop: Stop) -> None:
        self._stops.append((name, stop))


Ready = Callable[[ManagementNode], Awaitable[None]]


async def serve(properties: Properties, ready: Ready) -> int:
    """Runs a node until SIGTERM or SIGINT; returns the exit code. A second signal ends it without draining.

    ``ready(node)`` runs once it serves.
    """
    name = properties.get(core.NODE_NAME) or socket.gethostname()
    logs.configure(
        name, json=properties.get(core.LOG_FORMAT) == "json", level=properties.get(core.LOG_LEVEL).upper()
    )
    node = ManagementNode(properties, discover(properties.get(core.SERVICES_ENABLED)))
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _told, told, number)
    if not await _started(node, told):
        log.info("told to stop before it served")
        return 0
    try:
        await ready(node)
        await _told_or_evicted(node, told)
        if not node.evicted:
            await _withdraw(node, properties)
    finally:
        await node.stop()
    return EVICTED if node.evicted else 0


async def _told_or_evicted(node: ManagementNode, told: asyncio.Event) -> None:
    ends = [asyncio.ensure_future(told.wait())]
    if node.guard is not None:
        ends.append(asyncio.ensure_future(node.guard.lost.wait()))
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    if node.evicted:
        asyncio.get_running_loop().call_later(STOP_EVICTED_SECONDS, os._exit, EVICTED)


async def _started(node: ManagementNode, told: asyncio.Event) -> bool:
    """Boots the node; False when it was told to stop meanwhile. Raises what keeps it from starting."""
    starting, stopping = asyncio.ensure_future(node.start()), asyncio.ensure_future(told.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()  # which stops the parts that have started
        await asyncio.wait((starting,))
    if starting.cancelled():
        return False
    starting.result()
    return True


async def _withdraw(node: ManagementNode, properties: Properties) -> None:
    """Tells load balancers first, and gives them time to look, before anything is refused."""
    grace, drain = properties.get(core.READY_GRACE_SECONDS), properties.get(core.DRAIN_SECONDS)
    log.info("stopping: not ready any more; draining for up to %.0f s", grace + drain)
    node.api.drain()
    await asyncio.sleep(grace)


def _told(event: asyncio.Event, number: int) -> None:
    if event.is_set():
        log.warning("told twice to stop: leaving at once; open jobs are taken up at the next start")
        os._exit(128 + number)
    event.set()


def _later(action: Callable[[], None]) -> Stop:
    async def stop() -> None:
        action()

    return stop


def _stopper(service: Service) -> Stop:
    return service.stop
