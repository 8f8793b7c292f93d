"""The parts of a node put together from its manifests: what can be built before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mgmtnode import __version__
from mgmtnode.agents.port import Agents
from mgmtnode.bus.bus import Bus
from mgmtnode.bus.message import ApiJob, DeleteJob
from mgmtnode.cascade.graph import CascadeGraph
from mgmtnode.cluster.membership import Membership
from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.config.file import Properties
from mgmtnode.db.session import Database, Tx
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.errors import DeclarationError
from mgmtnode.events.log import EventLog
from mgmtnode.extension.registry import Extensions
from mgmtnode.handlers import Handlers, bind
from mgmtnode.jobs.acceptance import DeletionCheck, DeletionPlan, JobSpec, Named
from mgmtnode.jobs.job import JOB
from mgmtnode.jobs.jobs import JOB_CONFIGS, Jobs
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.jobs.watch import JobWatch
from mgmtnode.loader import LoadError, events, values, where
from mgmtnode.ports import Clock, Rng, UuidSource
from mgmtnode.query.engine import Query
from mgmtnode.query.errors import GraphError
from mgmtnode.ring.slots import Slots
from mgmtnode.schema import Resource
from mgmtnode.service import NodeContext, Service, ServiceManifest
from mgmtnode.shared.port import Alone, Shared
from mgmtnode.shared.rates import REQUESTS_PER_SECOND
from mgmtnode.tags.tags import Tags
from mgmtnode.tasks.periodic import Periodic
from mgmtnode.telemetry import families
from mgmtnode.telemetry.metrics import Metrics
from mgmtnode.telemetry.telemetry import Telemetry

NODE_CONFIGS = (*JOB_CONFIGS, REQUESTS_PER_SECOND)


@dataclass(kw_only=True)
class Edges:
    """What a node gets from outside: the ports, and who it is."""

    name: str
    membership: Membership
    clock: Clock
    rng: Rng
    db: Database
    bus: Bus
    slots: Slots
    agents: Agents
    properties: Properties
    telemetry: Telemetry = field(default_factory=Telemetry)
    shared: Shared = field(default_factory=Alone)


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
    events = EventLog(edges.db, edges.bus.publish)
    hooks = edges.db.hooks = _Hooks(events)
    repository, specs = JobRepository(JobWatch(edges.telemetry)), dict[str, JobSpec]()
    resources = declared_resources(manifests)
    context = build_context(manifests, edges, resources, (repository, specs))
    services = [(manifest, _build(manifest, context)) for manifest in manifests]
    hooks.handlers = bind(services)
    specs.update(hooks.handlers.jobs)
    context.jobs.learn_specs()
    context.jobs.acceptance.deletion_check = veto(context.cascade)
    context.jobs.acceptance.deletion_plan = planned(context.cascade)
    connect(services, hooks.handlers, context)
    return Parts(
        context=context,
        services=services,
        handlers=hooks.handlers,
        events=events,
        repository=repository,
        specs=specs,
        resources=resources,
    )


def _build(manifest: ServiceManifest, context: NodeContext) -> Service:
    try:
        return manifest.service(context)
    except Exception as exc:
        raise LoadError(f"{where(manifest)}: cannot be built: {type(exc).__name__}: {exc}") from exc


def build_context(
    manifests: Sequence[ServiceManifest],
    edges: Edges,
    resources: Sequence[Resource],
    jobs: tuple[JobRepository, dict[str, JobSpec]],
) -> NodeContext:
    """What services get. ``jobs``: the repository, and the specs, which are filled in once the services are bound."""
    config, uuids = GlobalConfigs(), UuidSource(edges.clock, edges.rng)
    tags = Tags(uuids)
    declare(manifests, config, tags)
    repository, specs = jobs
    return NodeContext(
        name=edges.name,
        clock=edges.clock,
        rng=edges.rng,
        uuids=uuids,
        db=edges.db,
        bus=edges.bus,
        jobs=Jobs(
            edges.db,
            edges.bus,
            edges.slots,
            uuids=uuids,
            config=config,
            specs=specs,
            repository=repository,
            node=edges.name,
        ),
        query=query_over(manifests, resources),
        config=config,
        properties=edges.properties,
        tags=tags,
        extensions=Extensions(),
        cascade=CascadeGraph(
            (rule for manifest in manifests for rule in manifest.cascade),
            (table for manifest in manifests for table in manifest.tables),
        ),
        agents=edges.agents,
        slots=edges.slots,
        membership=edges.membership,
        periodic=Periodic(edges.rng),
        manifests={manifest.id: manifest for manifest in manifests},
        shared=edges.shared,
    )


def show_node(metrics: Metrics, name: str, context: NodeContext) -> None:
    """The gauges of the parts that have no others."""
    jobs, periodic, slots = context.jobs, context.periodic, context.slots
    metrics.read(families.SLOTS_OWNED, lambda: len(slots.own_slots()))
    metrics.read(families.RING_VERSION, lambda: slots.version)
    metrics.read(families.INFO, lambda: {(__version__, name): 1.0})
    metrics.read(families.JOBS_OPEN, lambda: 0 if jobs.runner is None else len(jobs.runner))
    metrics.read(families.JOBS_RUNNING, lambda: 0 if jobs.runner is None else len(jobs.runner.running))
    metrics.read(families.PERIODIC_RUNS, lambda: {r.name: r.runs for r in periodic.snapshot()})
    metrics.read(families.PERIODIC_FAILURES, lambda: {r.name: r.failures for r in periodic.snapshot()})


def declare_properties(manifests: Sequence[ServiceManifest], properties: Properties) -> None:
    """Completes the configuration of the node with its services'. Raises ConfigFileError."""
    for manifest in manifests:
        properties.declare(manifest.id, manifest.properties)
    properties.close()


def declare(manifests: Sequence[ServiceManifest], config: GlobalConfigs, tags: Tags) -> None:
    """Makes the settings and tags of all manifests known."""
    config.declare("the node", NODE_CONFIGS)
    for manifest in manifests:
        config.declare(manifest.id, manifest.config)
        tags.declare(manifest.id, manifest.tags)


def declared_resources(manifests: Sequence[ServiceManifest]) -> list[Resource]:
    return [r for manifest in manifests for module in manifest.contract for r in values(module, Resource)]


def query_over(manifests: Sequence[ServiceManifest], resources: Sequence[Resource]) -> Query:
    tables = [table for manifest in manifests for table in manifest.tables]
    elsewhere = {c.info["ref"] for table in tables for c in table.columns if "ref" in c.info}
    try:
        return Query([*resources, JOB], [*CORE_TABLES, *tables], known=elsewhere)
    except GraphError as exc:
        raise LoadError(f"resources and tables do not fit: {exc}") from exc


def veto(cascade: CascadeGraph) -> DeletionCheck:
    """Lets the services below refuse a deletion that is not forced, before it is accepted."""

    def check(tx: Tx, spec: JobSpec, msg: ApiJob[Any], origin: str) -> None:
        if isinstance(msg, DeleteJob) and not msg.force:
            cascade.check(tx, spec.resource_type, msg.uuid, root=origin or spec.resource_type)

    return check


def planned(cascade: CascadeGraph) -> DeletionPlan:
    """Tells what a deletion would do to what is below."""

    def plan(tx: Tx, spec: JobSpec, msg: ApiJob[Any]) -> list[Named]:
        if not isinstance(msg, DeleteJob):
            return []
        below = cascade.below(tx, spec.resource_type, msg.uuid, root=spec.resource_type, force=msg.force)
        return [(job.api.name, kind, uuid) for kind, uuid, job in below]

    return plan


def connect(
    services: Sequence[tuple[ServiceManifest, Service]], handlers: Handlers, context: NodeContext
) -> None:
    """Puts extensions into their points and handlers onto the bus."""
    for manifest, service in services:
        for extension in manifest.extensions:
            try:
                context.extensions.add(manifest.id, extension, service)
            except DeclarationError as exc:
                raise LoadError(f"{where(manifest)}: {exc}") from exc
        for module in manifest.contract:
            context.bus.declare(events(module))
    for message, bound in handlers.internal.items():
        level = bound.mark.level
        current = level if isinstance(level, int) else partial(context.config.get, level)
        context.bus.handle(message, bound.method, serial=bound.mark.serial, level=current)
    for event, method in handlers.subscribers:
        context.bus.subscribe(event, method)
