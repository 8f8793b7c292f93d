"""The API of one node, made from its parts: what a node gives to ``HttpApi``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mgmtnode.api.app import HttpApi
from mgmtnode.api.auth import Authenticator
from mgmtnode.api.gateway import Gateway
from mgmtnode.api.health import Check
from mgmtnode.api.operations import Operations
from mgmtnode.api.problems import Catalogue
from mgmtnode.api.server import Listen
from mgmtnode.bus.message import Event
from mgmtnode.config import core_properties as core
from mgmtnode.config import global_config
from mgmtnode.config.file import ConfigFileError, Properties
from mgmtnode.errors import ErrorCode
from mgmtnode.events import log as events_log
from mgmtnode.jobs.ending import JobEnded
from mgmtnode.loader import events, values
from mgmtnode.parts import Parts
from mgmtnode.ports import Rng
from mgmtnode.query import errors as query_errors
from mgmtnode.shared import rates
from mgmtnode.shared.rates import REQUESTS_PER_SECOND, Rates
from mgmtnode.tags import system_tag
from mgmtnode.telemetry.metrics import Metrics
from mgmtnode.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from mgmtnode.api.amqp.server import AmqpApi

TOKEN = "token"  # the Authenticator that REST asks
CORE = (global_config, events_log, query_errors, rates, system_tag)


def http_api(
    parts: Parts, properties: Properties, checks: Mapping[str, Check], telemetry: Telemetry, rng: Rng
) -> HttpApi:
    """Raises extension.unknown-key when no service can tell who a token belongs to."""
    return HttpApi(
        gateway_over(parts, telemetry.metrics),
        events=parts.events,
        checks=checks,
        telemetry=telemetry,
        rng=rng,
        codes=declared_codes(parts),
        told=declared_events(parts),
        listen=Listen(
            host=properties.get(core.API_HOST),
            port=properties.get(core.API_PORT),
            certificate=properties.get(core.API_TLS_CERTIFICATE) or None,
            private_key=properties.get(core.API_TLS_KEY) or None,
        ),
    )


def amqp_api(
    node: str,
    parts: Parts,
    properties: Properties,
    gateway: Gateway,
    telemetry: Telemetry,
) -> AmqpApi | None:
    """None if it is not asked for. Raises ConfigFileError."""
    url = properties.get(core.API_AMQP_URL)
    if not url:
        return None
    for part in url.split(";"):
        if urlsplit(part.strip()).scheme not in ("amqp", "amqps"):
            raise ConfigFileError(f"{core.API_AMQP_URL.name}: expected amqp://… or amqps://…")
    from mgmtnode.api.amqp.server import AmqpApi, Surroundings  # kombu, for who needs it: 60 ms and 4 MB

    context = parts.context
    surroundings = Surroundings(
        name=node,
        gateway=gateway,
        catalogue=Catalogue(declared_codes(parts)),
        db=context.db,
        slots=context.slots,
        jobs=parts.repository,
        events=parts.events,
        rng=context.rng,
        telemetry=telemetry,
    )
    prefetch, ca = properties.get(core.API_AMQP_PREFETCH), properties.get(core.BUS_CA)
    api = AmqpApi(url, prefetch, surroundings, ca=ca)
    context.bus.listen(JobEnded, api.heard)
    return api


def gateway_over(parts: Parts, metrics: Metrics) -> Gateway:
    """The transport-neutral gateway: every road from outside ends there."""
    context, handlers = parts.context, parts.handlers
    per_second = partial(context.config.get, REQUESTS_PER_SECOND)
    messages = [spec.message for spec in parts.specs.values()] + list(handlers.calls)
    return Gateway(
        operations=Operations(messages, parts.resources),
        jobs=context.jobs,
        query=context.query,
        db=context.db,
        authenticator=context.extensions.pick(Authenticator, TOKEN),
        admit=Rates(context.shared, context.clock, metrics, per_second).admit,
        calls={message: bound.method for message, bound in handlers.calls.items()},
    )


def declared_codes(parts: Parts) -> list[ErrorCode]:
    return [code for module in (*CORE, *contracts(parts)) for code in values(module, ErrorCode)]


def declared_events(parts: Parts) -> list[type[Event]]:
    return [JobEnded, *(event for module in contracts(parts) for event in events(module))]


def contracts(parts: Parts) -> list[ModuleType]:
    return [module for manifest in parts.context.manifests.values() for module in manifest.contract]
