"""The API of one node, made from its parts: what a node gives to ``HttpApi``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from mgmtnode.api.app import HttpApi
from mgmtnode.api.auth import Authenticator
from mgmtnode.api.gateway import Gateway
from mgmtnode.api.health import Check
from mgmtnode.api.operations import Operations
from mgmtnode.api.server import Listen
from mgmtnode.config import core_properties as core
from mgmtnode.config import global_config
from mgmtnode.config.file import Properties
from mgmtnode.errors import ErrorCode
from mgmtnode.events import log as events_log
from mgmtnode.loader import values
from mgmtnode.parts import Parts
from mgmtnode.ports import Rng
from mgmtnode.query import errors as query_errors
from mgmtnode.shared import rates
from mgmtnode.shared.rates import REQUESTS_PER_SECOND, Rates
from mgmtnode.tags import system_tag
from mgmtnode.telemetry.metrics import Metrics
from mgmtnode.telemetry.telemetry import Telemetry

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
        listen=Listen(
            host=properties.get(core.API_HOST),
            port=properties.get(core.API_PORT),
            certificate=properties.get(core.API_TLS_CERTIFICATE) or None,
            private_key=properties.get(core.API_TLS_KEY) or None,
        ),
    )


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
    contracts = (module for manifest in parts.context.manifests.values() for module in manifest.contract)
    return [code for module in (*CORE, *contracts) for code in values(module, ErrorCode)]
