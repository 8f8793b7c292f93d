"""The parts of a node put together from its manifests: what can be built before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mgmtnode.agents.port import Agents
from mgmtnode.bus.bus import Bus
from mgmtnode.cascade.graph import CascadeGraph
from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.config.file import Properties
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.db.session import Database, Tx
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.events.log import EventLog
from mgmtnode.extension.registry import Extensions
from mgmtnode.handlers import Handlers, bind
from mgmtnode.jobs.acceptance import JobSpec
from mgmtnode.jobs.job import JOB
from mgmtnode.jobs.jobs import JOB_CONFIGS, Jobs
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.loader import events, values
from mgmtnode.ports import Clock, Rng, UuidSource
from mgmtnode.query.engine import Query
from mgmtnode.ring.slots import Slots
from mgmtnode.schema import Resource
from mgmtnode.service import NodeContext, Service, ServiceManifest
from mgmtnode.tags.tags import Tags
from mgmtnode.tasks.periodic import Periodic


@dataclass(kw_only=True)
class Edges:
    """What a node gets from outside: the ports, and who it is."""

    name: str
    incarnation: int
    clock: Clock
    rng: Rng
    db: Database
    bus: Bus
    slots: Slots
    agents: Agents
    properties: Properties


@dataclass(kw_only=True)
class Parts:
    """Everything a node consists of besides its edges."""

    context: NodeContext
    services: list[tuple[ServiceManifest, Service]]
    handlers: Handlers
    events: EventLog
    repository: JobRepository
    specs: dict[str, JobSpec]
    resources: list[Resource]


class _Hooks:
    """What a transaction may ask of the node."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.handlers = Handlers()

    def call_in_tx(self, tx: Tx, msg: Any) -> Any:
        return self.handlers.call_in_tx(tx, msg)

    def record(self, tx: Tx, event: Any) -> None:
        self._log.record(tx, event)


def assemble(manifests: Sequence[ServiceManifest], edges: Edges) -> Parts:
    """Builds the settings, the engines and the services, and binds the handlers. Raises LoadError and
    DeclarationError for what does not fit together."""
    hooks = _Hooks(EventLog(edges.db, edges.bus.publish))
    edges.db.hooks = hooks
    config, uuids, repository = GlobalConfigs(), UuidSource(edges.clock, edges.rng), JobRepository()
    tags = Tags(uuids)
    declare(manifests, config, tags, edges.properties)
    resources = declared_resources(manifests)
    specs: dict[str, JobSpec] = {}
    jobs = Jobs(
        edges.db,
        edges.bus,
        edges.slots,
        uuids=uuids,
        config=config,
        specs=specs,
        repository=repository,
        node=edges.name,
    )
    context = NodeContext(
        name=edges.name,
        clock=edges.clock,
        rng=edges.rng,
        uuids=uuids,
        db=edges.db,
        bus=edges.bus,
        jobs=jobs,
        query=query_over(manifests, resources),
        config=config,
        properties=edges.properties,
        tags=tags,
        extensions=Extensions(),
        cascade=CascadeGraph(rule for manifest in manifests for rule in manifest.cascade),
        agents=edges.agents,
        slots=edges.slots,
        periodic=Periodic(edges.rng),
        manifests={manifest.id: manifest for manifest in manifests},
    )
    services = [(manifest, manifest.service(context)) for manifest in manifests]
    hooks.handlers = bind(services)
    specs.update(hooks.handlers.jobs)
    connect(services, hooks.handlers, context)
    jobs.learn_specs()
    return Parts(
        context=context,
        services=services,
        handlers=hooks.handlers,
        events=hooks._log,
        repository=repository,
        specs=specs,
        resources=resources,
    )


def declare(manifests: Sequence[ServiceManifest], config: GlobalConfigs, tags: Tags, properties: Properties) -> None:
    """Makes the settings and tags of all manifests known."""
    config.declare("the node", JOB_CONFIGS)
    for manifest in manifests:
        config.declare(manifest.id, manifest.config)
        tags.declare(manifest.id, manifest.tags)
        properties.declare(manifest.id, manifest.properties)
    properties.close()


def declared_resources(manifests: Sequence[ServiceManifest]) -> list[Resource]:
    return [r for manifest in manifests for module in manifest.contract for r in values(module, Resource)]


def query_over(manifests: Sequence[ServiceManifest], resources: Sequence[Resource]) -> Query:
    tables = [table for manifest in manifests for table in manifest.tables]
    return Query([*resources, JOB], [*CORE_TABLES, *tables])


def connect(services: Sequence[tuple[ServiceManifest, Service]], handlers: Handlers, context: NodeContext) -> None:
    """Puts extensions into their points and handlers onto the bus."""
    for manifest, service in services:
        for extension in manifest.extensions:
            context.extensions.add(manifest.id, extension, service)
        for module in manifest.contract:
            context.bus.declare(events(module))
    for message, bound in handlers.internal.items():
        level = bound.mark.level
        context.bus.handle(
            message,
            bound.method,
            serial=bound.mark.serial,
            level=level if isinstance(level, int) else _configured(context.config, level),
        )
    for event, method in handlers.subscribers:
        context.bus.subscribe(event, method)


def _configured(configs: GlobalConfigs, level: GlobalConfig[int]) -> Callable[[Any], int]:
    """A level that follows a global config, whatever the message."""
    return lambda msg: configs.get(level)
