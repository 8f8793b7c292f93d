"""What a service is: a manifest that declares it, a class whose methods handle messages, a context to work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.config.properties import GlobalProperty
from mgmtnode.extension.point import Extension
from mgmtnode.shared.port import Alone
from mgmtnode.tags.system_tag import SystemTag

if TYPE_CHECKING:
    from sqlalchemy import Table

    from mgmtnode.agents.port import Agents
    from mgmtnode.bus.bus import Bus
    from mgmtnode.cascade.graph import CascadeGraph, OnDelete
    from mgmtnode.cluster.membership import Membership
    from mgmtnode.config.configs import GlobalConfigs
    from mgmtnode.config.file import Properties
    from mgmtnode.db.session import Database
    from mgmtnode.extension.registry import Extensions
    from mgmtnode.jobs.jobs import Jobs
    from mgmtnode.ports import Clock, Rng, UuidSource
    from mgmtnode.query.engine import Query
    from mgmtnode.ring.slots import Slots
    from mgmtnode.shared.port import Shared
    from mgmtnode.tags.tags import Tags
    from mgmtnode.tasks.periodic import Periodic
    from mgmtnode.workflow.flow import AnyFlow

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(kw_only=True)
class NodeContext:
    """All that a service gets. It holds no state of its own besides caches."""

    name: str
    clock: Clock
    rng: Rng
    uuids: UuidSource
    db: Database
    bus: Bus
    jobs: Jobs
    query: Query
    config: GlobalConfigs
    properties: Properties
    tags: Tags
    extensions: Extensions
    cascade: CascadeGraph
    agents: Agents
    slots: Slots
    membership: Membership
    periodic: Periodic
    manifests: dict[str, ServiceManifest]
    shared: Shared = field(default_factory=Alone)


class Service:
    """Base of services. Built after the node's parts, started in manifest order, stopped in reverse."""

    def __init__(self, node: NodeContext) -> None:
        self.node = node

    async def start(self) -> None:
        """Called once every service is built and the bus delivers. Optional."""

    async def stop(self) -> None:
        """Called after the node has drained. Optional."""


@dataclass(frozen=True, kw_only=True)
class ServiceManifest:
    """The declaration of a service: one literal in its ``manifest.py``.

    ``contract``: modules whose messages this service handles, all of them. ``tables`` belong to it alone. ``requires``:
    ids of services without which it makes no sense. ``migrations``: package with its Alembic branch. ``plugin``: may
    be left out of ``services.enabled`` without harm to the others.
    """

    id: str
    summary: str
    service: type[Service]
    contract: tuple[ModuleType, ...] = ()
    tables: tuple[Table, ...] = ()
    migrations: str = ""
    requires: tuple[str, ...] = ()
    extensions: tuple[Extension, ...] = ()
    config: tuple[GlobalConfig[Any], ...] = ()
    properties: tuple[GlobalProperty[Any], ...] = ()
    tags: tuple[SystemTag, ...] = ()
    cascade: tuple[OnDelete, ...] = ()
    plugin: bool = False


@dataclass(frozen=True, slots=True)
class HandlerMark:
    """What a decorator leaves on a method; the loader reads the message type from the signature."""

    kind: str  # handler, job, validate, subscribe
    serial: str = ""
    level: int | GlobalConfig[int] = 1
    flow: AnyFlow | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def handler(*, serial: str = "", level: int | GlobalConfig[int] = 1) -> Callable[[F], F]:
    """Handles an Internal (``async def f(self, msg)``), InTx (``def f(self, tx, msg)``) or ApiCall
    (``async def f(self, msg, caller)``) message.

    ``serial`` is a template over the message's fields (``"host:{host_uuid}"``): at most ``level`` calls with one key
    run at once on the owner node, the others wait in order.
    """
    return _marking(HandlerMark("handler", serial=serial, level=level))


def job(flow: AnyFlow | None = None) -> Callable[[F], F]:
    """Handles an ApiJob: ``def f(self, tx, msg) -> Reply`` does it in one transaction, or, with a flow,
    ``def f(self, msg, work) -> FlowContext`` builds the context to run it with."""
    return _marking(HandlerMark("job", flow=flow))


def validate(method: F) -> F:
    """``def f(self, tx, msg, caller) -> None`` refuses an ApiJob before it is accepted. Reads only."""
    return _marking(HandlerMark("validate"))(method)


def subscribe(method: F) -> F:
    """``async def f(self, event) -> None`` hears an event on every node, once it is a fact. At most once each."""
    return _marking(HandlerMark("subscribe"))(method)


def _marking(mark: HandlerMark) -> Callable[[F], F]:
    def decorate(method: F) -> F:
        method.__mark__ = mark  # type: ignore[attr-defined]
        return method

    return decorate
