"""The whole HTTP side of a node in one place: routes, events, health, documents, and how they stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from mgmtnode.api.docs import Docs
from mgmtnode.api.edge import Edge
from mgmtnode.api.events import Events, EventSource
from mgmtnode.api.gateway import Gateway
from mgmtnode.api.health import Check, Health
from mgmtnode.api.problems import Catalogue
from mgmtnode.api.rest import Rest
from mgmtnode.api.server import HttpServer, Listen
from mgmtnode.bus.message import Event
from mgmtnode.errors import ErrorCode
from mgmtnode.ports import Rng
from mgmtnode.telemetry.families import HTTP_WAITING
from mgmtnode.telemetry.metrics import CONTENT_TYPE
from mgmtnode.telemetry.telemetry import Telemetry


class HttpApi:
    """Built by the node once its services are; ``app`` is the ASGI application, for tests without a socket.
    ``codes`` and ``told`` (the kinds of events) are for the documents.

    Stopping goes ``drain`` (not ready any more, still answering), then ``stop``.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        events: EventSource,
        checks: Mapping[str, Check],
        telemetry: Telemetry,
        rng: Rng,
        codes: Iterable[ErrorCode] = (),
        told: Iterable[type[Event]] = (),
        listen: Listen | None = None,
    ) -> None:
        catalogue = Catalogue(codes)
        self.gateway = gateway
        self.health = Health(checks, telemetry.metrics.text, CONTENT_TYPE)
        self.events = Events(gateway, events)
        self.edge = Edge(catalogue, rng, telemetry)
        telemetry.metrics.read(HTTP_WAITING, lambda: gateway.waiting)
        docs = Docs(gateway.operations, catalogue, told)
        extra = [*self.health.routes(), *self.events.routes(), *docs.routes()]
        self.app = Rest(gateway, extra).app(self.edge)
        self._server = HttpServer(self.app, listen or Listen())

    @property
    def port(self) -> int:
        return self._server.port

    async def start(self) -> None:
        """Raises api.port-taken."""
        await self._server.start()

    def drain(self) -> None:
        """Tells load balancers to go elsewhere, and everybody who waits that it takes longer."""
        self.health.draining = True
        self.gateway.close()
        self.events.close()

    async def stop(self, seconds: float = 10.0) -> None:
        """Takes no new requests; those in flight have ``seconds`` to end."""
        self.drain()
        self.edge.stopping = True
        # One turn of the loop, in which the streams and waits that were just told say goodbye.
        await asyncio.sleep(0)
        await self._server.stop(seconds)
