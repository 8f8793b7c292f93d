"""The management node: builds its parts in order, boots, drains, stops. Read this first.

    configuration → locks → database → schema → registering → services and settings → bus → jobs → services start
    → entering the cluster → API

A part that has started is stopped again, in reverse, when a later one fails or when the node is told to stop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

from mgmtnode import __version__
from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.port import Agents
from mgmtnode.agents.remote import RemoteAgents
from mgmtnode.agents.watched import WatchedAgents
from mgmtnode.api.app import HttpApi
from mgmtnode.api.application import TOKEN, amqp_api, http_api
from mgmtnode.api.auth import Authenticator
from mgmtnode.bus.bus import Bus
from mgmtnode.bus.choice import check_url as check_bus_url
from mgmtnode.bus.choice import transport_over
from mgmtnode.bus.transport import Transport, address_of
from mgmtnode.cluster import figures
from mgmtnode.cluster.gate import GatedAgents
from mgmtnode.cluster.heart import Heart, NoHeart, ThreadHeart
from mgmtnode.cluster.lease import Lease
from mgmtnode.cluster.listeners import Listeners, ManagementNodeChangeListener
from mgmtnode.cluster.membership import Membership, RingChanged
from mgmtnode.cluster.rebalance import Rebalancer
from mgmtnode.cluster.records import Identity
from mgmtnode.cluster.solitude import Solitude
from mgmtnode.config import core_properties as core
from mgmtnode.config.file import Properties
from mgmtnode.db import statistics
from mgmtnode.db.engine import open_database, sqlite_file
from mgmtnode.db.lock import DirectoryLock
from mgmtnode.db.own_connection import label
from mgmtnode.db.schema import upgrade
from mgmtnode.db.session import SqlDatabase
from mgmtnode.db.waiting import until_there
from mgmtnode.errors import log_failure
from mgmtnode.jobs.start import start_runner
from mgmtnode.loader import require
from mgmtnode.parts import Edges, Parts, assemble, declare_properties, show_node
from mgmtnode.ports import Clock, Rng, SystemClock, SystemRng, UuidSource
from mgmtnode.ring.slots import Slots
from mgmtnode.service import Service, ServiceManifest
from mgmtnode.shared.choice import check_url as check_redis_url
from mgmtnode.shared.choice import shared_over
from mgmtnode.shared.port import Shared
from mgmtnode.telemetry.families import LOOP_LAG
from mgmtnode.telemetry.loop_lag import LoopLag
from mgmtnode.telemetry.telemetry import Telemetry
from mgmtnode.telemetry.traces import tracer_to

log = logging.getLogger(__name__)

SWEEP_SECONDS = 2.0
PROBE_SECONDS = 2.0
FORGET_SECONDS = 3600.0
EVENT_RETENTION = timedelta(days=7)
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
        self._agents = agents  # None: those of this node alone
        self.name = properties.get(core.NODE_NAME) or socket.gethostname()
        self.slots = Slots(self.name)
        self.lease: Lease
        self._stops: list[tuple[str, Stop]] = []
        self.waiting_for = ""
        self._process = f"{self._rng.bits(32):08x}"
        self.db: SqlDatabase
        self.membership: Membership
        self.rebalancer: Rebalancer
        self.parts: Parts
        self.bus: Bus
        self.api: HttpApi

    async def start(self) -> None:
        """Boots part by part. When one fails, those before it are stopped again and its error is raised."""
        steps: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
            ("the configuration", self._read_configuration),
            ("the data directory", self._lock),
            ("the database", self._open_database),
            ("the schema", self._upgrade),
            ("its place in the cluster", self._register),
            ("the services", self._build),
            ("the settings", self._load_settings),
            ("the bus", self._start_bus),
            ("the jobs", self._start_jobs),
            ("the services to start", self._start_services),
            ("its share of the work", self._enter),
            ("the API", self._start_api),
            ("the AMQP API", self._start_amqp_api),
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
            except Exception as exc:
                log_failure(log, exc, "%s did not stop cleanly", name)

    # the parts, in the order they start

    async def _read_configuration(self) -> None:
        """First, because a node with a typo in its configuration must not touch what others use."""
        declare_properties(self._manifests, self._properties)
        require(self._manifests, Authenticator, TOKEN, "nobody could log in")
        check_bus_url(self.bus_url)
        check_redis_url(self._properties.get(core.REDIS_URL))
        endpoint, share = self._properties.get(core.OTLP_ENDPOINT), self._properties.get(core.OTLP_SHARE)
        self.telemetry.tracer = tracer_to(endpoint, node=self.name, version=__version__, share=share)
        self._on_stop("the traces", self.telemetry.stop)

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

    async def _upgrade(self) -> None:
        await self._until_there(lambda: asyncio.to_thread(upgrade, self.db, self._manifests))

    async def _register(self) -> None:
        """Its queue, its connections and its fence are named after the incarnation, so this comes before them."""
        solitude = Solitude(self.db, self._clock, self.name, alone=not self.bus_url)
        await self._until_there(solitude.ensure)
        self.lease = Lease(self._clock, forever=self.on_file)
        uuids = UuidSource(self._clock, self._rng)
        self.membership = Membership(
            self._identity(), self.db, self.slots,
            heart=self._heart(), lease=self.lease, clock=self._clock, uuids=uuids,
        )  # fmt: skip
        self._on_stop("membership", self.membership.leave)
        await self._until_there(self.membership.register)

    def _identity(self) -> Identity:
        port = self._properties.get(core.API_PORT)
        address = self._properties.get(core.NODE_ADDRESS) or f"{self.name}:{port}"
        return Identity(self.name, address, __version__, label(self.name, self._process))

    def _heart(self) -> Heart:
        if self.on_file:
            return NoHeart()
        called = label(self.name, self._process, "heart")
        return ThreadHeart(self.db, self._clock, name=self.name, label=called)

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
            membership=self.membership,
            clock=self._clock,
            rng=self._rng,
            db=self.db,
            bus=self.bus,
            slots=self.slots,
            agents=WatchedAgents(GatedAgents(self._agents or self._own_agents(), self.lease), self.telemetry),
            properties=self._properties,
            telemetry=self.telemetry,
            shared=self._shared(),
        )
        self.parts = assemble(self._manifests, edges)
        await edges.shared.start()
        self._on_stop("what nodes share", edges.shared.stop)

    def _transport(self) -> Transport:
        address = address_of(self.name, self.membership.incarnation)
        ca = self._properties.get(core.BUS_CA)
        return transport_over(self.bus_url, address, clock=self._clock, rng=self._rng, ca=ca)

    def _shared(self) -> Shared:
        url, ca = self._properties.get(core.REDIS_URL), self._properties.get(core.REDIS_CA)
        cluster, clock, rng = self.membership.cluster, self._clock, self._rng
        return shared_over(url, cluster, clock=clock, rng=rng, telemetry=self.telemetry, ca=ca)

    def _own_agents(self) -> Agents:
        agents, remote = LocalAgents(), RemoteAgents(self._properties)
        remote.serve(agents)
        self._on_stop("the connections to host agents", remote.close)
        return agents

    async def _load_settings(self) -> None:
        await self.parts.context.config.load(self.db)

    async def _start_bus(self) -> None:
        self.bus.on_hint(self.parts.context.jobs.hinted)
        self.bus.subscribe(RingChanged, self.membership.ring_changed)
        self.bus.on_remote_event(self.parts.events.wake)
        self.membership.announce = self.bus.publish
        await self.bus.start()
        self._on_stop("the bus", self._stop_bus)

    async def _stop_bus(self) -> None:
        self.membership.announce = lambda event: None
        await self.bus.stop()

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
            gate=self.lease.gate,
        )
        self.membership.load = runner.load
        self._on_stop("the jobs", lambda: runner.drain(self.drain_seconds))

    async def _start_services(self) -> None:
        for manifest, service in self.parts.services:
            await service.start()
            self._on_stop(f"the service {manifest.id}", _stopper(service))
        self._watch_loop()
        periodic, jobs = self.parts.context.periodic, self.parts.context.jobs
        self._on_stop("the periodic work", periodic.stop)
        periodic.every("bus.probe", PROBE_SECONDS, self.bus.probe)
        sweep = periodic.every("jobs.sweep", self._sweep_seconds, jobs.sweep, at_once=True)
        self.slots.on_change(sweep.poke)
        periodic.every("jobs.forget", FORGET_SECONDS, jobs.forget)
        periodic.every("events.forget", FORGET_SECONDS, self._forget_events)
        periodic.every("database.statistics", statistics.SECONDS, lambda: statistics.learn(self.db))

    def _watch_loop(self) -> None:
        lag = LoopLag(lambda seconds: self.telemetry.metrics.observe(LOOP_LAG, seconds))
        lag.start()
        self._on_stop("the loop's watch", _later(lag.stop))

    async def _enter(self) -> None:
        context, runner = self.parts.context, self.parts.context.jobs.runner
        assert runner is not None
        listeners = Listeners(self.slots, context.extensions.all(ManagementNodeChangeListener))
        listeners.start()
        self._on_stop("the listeners to changes of the cluster", listeners.stop)
        self.rebalancer = Rebalancer(
            self.db, self.slots, self.membership, runner, self.parts.repository, self._clock,
            batch=self._properties.get(core.SLOTS_AT_ONCE),
        )  # fmt: skip
        self.rebalancer.start()
        figures.show(self.telemetry.metrics, self.membership, listeners, self.rebalancer)
        self._on_stop("the rebalancer", self.rebalancer.stop)
        await self._until_there(self.membership.enter)

    async def withdraw(self) -> None:
        """Gives all slots to the other nodes, while the API still answers; within node.drain_seconds."""
        self.api.drain()
        await self.membership.withdraw()
        if not await self.rebalancer.until_empty(self.drain_seconds):
            log.warning(
                "not all slots were handed over in time; the others take them when this node has left"
            )

    async def _start_api(self) -> None:
        checks = {"database": self._check_database, "bus": self._check_bus, "lease": self._check_lease}
        show_node(self.telemetry.metrics, self.name, self.parts.context)
        self.api = http_api(self.parts, self._properties, checks, self.telemetry, self._rng)
        await self.api.start()
        self._on_stop("the API", self.api.stop)

    async def _start_amqp_api(self) -> None:
        api = amqp_api(self.name, self.parts, self._properties, self.api.gateway, self.telemetry)
        if api is not None:
            self.api.health.advise("AMQP API", api.check)
            await api.start()
            self._on_stop("the AMQP API", api.stop)

    async def _until_there(self, attempt: Callable[[], Awaitable[object]]) -> None:
        """Waits for a database server. A file is tried once: a full disk does not mend itself."""
        seconds = 0.0 if self.on_file else self._properties.get(core.BOOT_SECONDS)
        await until_there(attempt, self.db, self._clock, seconds=seconds)

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
    def on_file(self) -> bool:
        """Whether the database is a file of this node, which no other one can use."""
        return self.db.dialect == "sqlite"

    @property
    def bus_url(self) -> str:
        return self._properties.get(core.BUS_URL)

    @property
    def evicted(self) -> bool:
        """Another node took over: nothing that this one still does is accepted."""
        return self.lease.lost.is_set()

    @property
    def drain_seconds(self) -> float:
        return 0.0 if self.evicted else self._properties.get(core.DRAIN_SECONDS)

    def _sweep_seconds(self) -> float:
        """Hints do not arrive while the broker is away: then the sweep finds the work."""
        return SWEEP_SECONDS if self.bus.transport.healthy else SWEEP_SECONDS / 8

    async def _check_lease(self) -> str | None:
        return None if self.lease.valid else "the lease of this node is not renewed"

    async def _check_database(self) -> str | None:
        await self.db.read(lambda tx: tx.ping())
        return None

    async def _check_bus(self) -> str | None:
        return self.bus.trouble

    async def _forget_events(self) -> None:
        await self.parts.events.forget(self._clock.now() - EVENT_RETENTION)

    def _on_stop(self, name: str, stop: Stop) -> None:
        self._stops.append((name, stop))


def _later(action: Callable[[], None]) -> Stop:
    async def stop() -> None:
        action()

    return stop


def _stopper(service: Service) -> Stop:
    return service.stop
