"""Answers one request after the other: asks the gateway, and puts what it says into messages."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from mgmtnode.api import json
from mgmtnode.api.amqp import replies
from mgmtnode.api.amqp.ends import Ends
from mgmtnode.api.amqp.frames import UNDECODABLE
from mgmtnode.api.amqp.intake import Delivery
from mgmtnode.api.amqp.outlet import Outgoing
from mgmtnode.api.amqp.request import (
    Address,
    Headers,
    Key,
    address_of,
    body_of,
    check_address,
    key_of,
)
from mgmtnode.api.amqp.routes import (
    CancelRoute,
    GetFields,
    GetRoute,
    ListFields,
    ListRoute,
    Route,
    Routes,
    fields_as,
)
from mgmtnode.api.auth import bearer
from mgmtnode.api.edge import identify
from mgmtnode.api.gateway import Accepted, Answer, Gateway, Options
from mgmtnode.api.operations import Operation
from mgmtnode.api.problems import Catalogue, status_of
from mgmtnode.bus.context import current
from mgmtnode.errors import INTERNAL, TIMEOUT, ApiError
from mgmtnode.jobs.job import Caller
from mgmtnode.ports import Rng
from mgmtnode.telemetry.families import AMQP_REQUESTS, AMQP_SECONDS
from mgmtnode.telemetry.telemetry import ERROR, OK, Telemetry, Timing

log = logging.getLogger(__name__)


NO_API = "none"


@dataclass(slots=True)
class Request:
    """A message that can be answered."""

    delivery: Delivery
    address: Address
    headers: Headers
    id: str = ""
    key: Key | None = None


class Desk:
    """Used by the server, once for each delivery, as many at once as the intake lets in."""

    def __init__(
        self, gateway: Gateway, catalogue: Catalogue, ends: Ends, *, rng: Rng, telemetry: Telemetry
    ) -> None:
        self._gateway, self._catalogue, self._ends = gateway, catalogue, ends
        self._rng, self._telemetry = rng, telemetry
        self._requests = telemetry.operation("AMQP", ("api", "status"), logger=log, kind="server")
        self._routes = Routes(gateway.operations)

    async def answer(self, delivery: Delivery) -> list[Outgoing]:
        """What to send, when all that has to be durable is; nothing if there is nobody to answer."""
        address = None if delivery.flaw == UNDECODABLE else address_of(delivery)
        if address is None:
            log.debug("a request is buried: %s", delivery.flaw or "no queue to answer to")
            self._telemetry.metrics.count(AMQP_REQUESTS, NO_API, "0")
            return []
        request = Request(delivery, address, Headers(delivery.properties))
        wish = request.headers.wish
        request.id, context = identify(wish("x-request-id"), wish("traceparent"), self._rng, self._telemetry)
        current.set(context)  # of this delivery's task alone
        with self._requests(self._label(delivery.key)) as timing:
            found = await self._outcome(request)
            self._observe(timing, found[0].status)
        return [reply.to(address, request.id) for reply in found]

    def _label(self, key: str) -> str:
        return key if key in self._routes.by_name else NO_API

    def _observe(self, timing: Timing, status: int) -> None:
        labels = timing.labels = (timing.labels[0], str(status))
        timing.outcome = OK if status < 500 else ERROR
        self._telemetry.metrics.count(AMQP_REQUESTS, *labels)
        self._telemetry.metrics.observe(AMQP_SECONDS, timing.seconds, labels[0])

    async def _outcome(self, request: Request) -> list[replies.Reply]:
        try:
            return await self._ask(request)
        except ApiError as exc:
            error = exc
        except TimeoutError:
            error = TIMEOUT.error("no answer in time; the request may still take effect")
        except Exception:
            log.exception("the request %s failed", request.delivery.key[:80])
            error = INTERNAL.error(request_id=request.id)
        document = self._catalogue.document(error.problem, request.delivery.key[:80], request.id)
        return [replies.problem(document, status_of(error.problem))]

    async def _ask(self, request: Request) -> list[replies.Reply]:
        """In the order of REST: what is asked, whether it was asked before, who asks, and with what."""
        delivery, headers = request.delivery, request.headers
        route = self._routes[delivery.key]
        check_address(request.address)
        request.key = key_of(delivery, request.address)
        caller = await self._caller(route, headers)
        body = body_of(delivery)
        fields = json.parse(body) if body else {}
        if isinstance(route, Operation):
            return replies.of_answer(await self._invoke(route, request, fields, caller))
        return [replies.result(await self._read(route, fields, caller))]

    async def _caller(self, route: Route, headers: Headers) -> Caller:
        if isinstance(route, Operation):
            token = None if route.api.public else bearer(headers.text("authorization"))
            return await self._gateway.caller_of(route, token)
        return await self._gateway.authenticate(bearer(headers.text("authorization")))

    async def _invoke(
        self, operation: Operation, request: Request, fields: dict[str, Any], caller: Caller
    ) -> Answer:
        key, headers = request.key, request.headers
        fresh = key is not None and key.derived and not request.delivery.redelivered

        def beside(tx: Any, job: Any) -> None:
            if not (job.ended or (job.replayed and fresh)):
                self._ends.owe(tx, job.uuid, request.address)

        options = Options(
            key=key.text if key else None,
            dry_run=headers.flag("dry-run"),
            if_match=headers.text("if-match"),
            beside=beside,
        )
        answer = await self._gateway.invoke(operation, dict(fields), caller, options)
        if isinstance(answer, Accepted) and answer.replayed and fresh:
            # Not the same message, as it comes for the first time, but one that says the same: a request of its own.
            options = Options(dry_run=options.dry_run, if_match=options.if_match, beside=beside)
            return await self._gateway.invoke(operation, fields, caller, options)
        return answer

    async def _read(
        self, route: ListRoute | GetRoute | CancelRoute, fields: dict[str, Any], caller: Caller
    ) -> Any:
        if isinstance(route, ListRoute):
            wanted = fields_as(ListFields, fields)
            page = await self._gateway.page(route.resource, wanted.listing(), caller)
            found = {"items": page.items, "next_cursor": page.next_cursor}
            return found | {"total": page.total} if wanted.count else found
        uuid = fields_as(GetFields, fields).uuid
        if isinstance(route, GetRoute):
            return await self._gateway.get(route.resource, uuid, caller)
        return await self._gateway.cancel(uuid, caller)
