"""The API of one node: the gateway over its parts, the routes around it, the server in front."""

from __future__ import annotations

from mgmtnode.api.auth import Authenticator
from mgmtnode.api.edge import Edge
from mgmtnode.api.gateway import Gateway
from mgmtnode.api.operations import Operations
from mgmtnode.api.problems import Catalogue
from mgmtnode.api.rest import Rest
from mgmtnode.api.server import HttpServer, Listen
from mgmtnode.config import core_properties as core
from mgmtnode.config.file import Properties
from mgmtnode.errors import ErrorCode
from mgmtnode.loader import values
from mgmtnode.parts import Parts
from mgmtnode.ports import Clock, Rng


class Api:
    """``start`` listens; ``stop`` turns new requests away, lets those in flight end, and closes."""

    def __init__(self, parts: Parts, properties: Properties, *, clock: Clock, rng: Rng) -> None:
        context, handlers = parts.context, parts.handlers
        messages = [spec.message for spec in parts.specs.values()] + list(handlers.calls)
        self.gateway = Gateway(
            operations=Operations(messages, parts.resources),
            jobs=context.jobs,
            query=context.query,
            db=context.db,
            authenticator=context.extensions.pick(Authenticator, "token"),
            calls={message: bound.method for message, bound in handlers.calls.items()},
        )
        codes = [
            code
            for manifest in context.manifests.values()
            for module in manifest.contract
            for code in values(module, ErrorCode)
        ]
        self.edge = Edge(Catalogue(codes), rng, clock.monotonic)
        self.rest = Rest(self.gateway)
        listen = Listen(
            host=properties.get(core.API_HOST),
            port=properties.get(core.API_PORT),
            certificate=properties.get(core.API_TLS_CERTIFICATE) or None,
            private_key=properties.get(core.API_TLS_KEY) or None,
        )
        self._server = HttpServer(self.rest.app(self.edge), listen)

    @property
    def port(self) -> int:
        return self._server.port

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        self.edge.stopping = True
        self.gateway.close()
        await self._server.stop()
