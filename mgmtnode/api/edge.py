"""The outermost layer of the HTTP side: request ids, traces, limits, errors as problems, metrics. Pure ASGI."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable

from mgmtnode.api.http import Disconnected, Receive, Reply, Request, Scope, Send
from mgmtnode.api.paths import Endpoint
from mgmtnode.api.problems import STOPPING, Catalogue, headers_of, status_of
from mgmtnode.bus.context import CallContext, current
from mgmtnode.errors import INTERNAL, OVERLOADED, TIMEOUT, ApiError
from mgmtnode.ports import Rng
from mgmtnode.telemetry import trace_context
from mgmtnode.telemetry.families import HTTP_IN_FLIGHT, HTTP_REQUESTS, HTTP_SECONDS
from mgmtnode.telemetry.telemetry import ERROR, OK, Telemetry, Timing

log = logging.getLogger(__name__)

App = Callable[[Scope, Receive, Send], Awaitable[None]]
PROBLEM = "application/problem+json"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
HEALTH = ("/livez", "/readyz", "/metrics")
NO_ROUTE = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def identify(given: str, traceparent: str, rng: Rng, telemetry: Telemetry) -> tuple[str, CallContext]:
    """The id of a request, and the trace that its work belongs to: the client's, or a new one. Where the client names
    neither, they are one: the id in an answer finds everything in the logs."""
    given = given if REQUEST_ID.fullmatch(given) else ""
    if parent := trace_context.parse(traceparent):
        trace, span = parent.trace, parent.span if parent.sampled and telemetry.tracer else ""
    else:
        trace = given if TRACE_ID.fullmatch(given) else f"{rng.bits(128) or 1:032x}"
        span = telemetry.first_span(trace)
    return given or trace, CallContext(trace=trace, span=span, request="" if given == trace else given)


class Edge:
    """``in_flight`` counts the requests being answered; above ``limit`` they are refused, health excepted."""

    def __init__(self, catalogue: Catalogue, rng: Rng, telemetry: Telemetry, limit: int = 4096) -> None:
        self._catalogue, self._rng, self._telemetry, self._limit = catalogue, rng, telemetry, limit
        self._requests = telemetry.operation("", ("method", "route", "status"), logger=log, kind="server")
        self.in_flight = 0
        self.stopping = False
        telemetry.metrics.read(HTTP_IN_FLIGHT, lambda: self.in_flight)

    def around(self, endpoint: Endpoint) -> App:
        """The application whose requests ``endpoint`` answers."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._handle(endpoint, Request(scope, receive, send))

        return app

    async def _handle(self, endpoint: Endpoint, request: Request) -> None:
        reset = current.set(self._identify(request))
        self.in_flight += 1
        try:
            with self._requests(request.method) as timing:
                request.traceparent = self._answered_trace()
                try:
                    await self._answer(endpoint, request)
                finally:
                    self._observe(request, timing)
        finally:
            self.in_flight -= 1
            current.reset(reset)

    async def _answer(self, endpoint: Endpoint, request: Request) -> None:
        try:
            self._admit(request)
            reply = await endpoint(request)
            if reply is not None:
                await request.answer(reply)
        except ApiError as exc:
            await self._refuse(request, exc)
        except TimeoutError:
            await self._refuse(request, TIMEOUT.error("no answer in time; the request may still take effect"))
        except Disconnected:
            request.status = 499
        except Exception:
            log.exception("the request %s %s failed", request.method, request.path[:200])
            await self._refuse(request, INTERNAL.error(request_id=request.request_id))

    def _identify(self, request: Request) -> CallContext:
        given, parent = request.headers.get("x-request-id", ""), request.headers.get(trace_context.HEADER, "")
        request.request_id, context = identify(given, parent, self._rng, self._telemetry)
        return context

    def _answered_trace(self) -> str:
        context = current.get()
        span = context.span or f"{self._rng.bits(64) or 1:016x}"
        return trace_context.header(context.trace, span, sampled=bool(context.span))

    def _observe(self, request: Request, timing: Timing) -> None:
        """A method of the client's own making is no label: the labels are a closed set."""
        method = request.method if request.method in METHODS else NO_ROUTE
        labels = timing.labels = (method, request.route or NO_ROUTE, str(request.status))
        timing.outcome = OK if request.status < 500 else ERROR
        self._telemetry.metrics.count(HTTP_REQUESTS, *labels)
        self._telemetry.metrics.observe(HTTP_SECONDS, timing.seconds, *labels[:2])

    def _admit(self, request: Request) -> None:
        if request.path in HEALTH:
            return
        if self.stopping:
            error = STOPPING.error(retry_after=1.0)
            error.headers["connection"] = "close"
            raise error
        if self.in_flight > self._limit:
            raise OVERLOADED.error("the node answers too many requests at once", retry_after=1.0)

    async def _refuse(self, request: Request, exc: ApiError) -> None:
        if request.status:  # the head of the answer is out; all that is left is to cut it off
            log.warning("the answer to %s %s broke off: %s", request.method, request.path[:200], exc)
            raise exc
        document = self._catalogue.document(exc.problem, request.path[:500], request.request_id)
        await request.answer(Reply(document, status_of(exc.problem), headers_of(exc), PROBLEM))
