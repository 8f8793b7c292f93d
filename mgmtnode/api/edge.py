"""The outermost layer of the HTTP side: request ids, limits, errors as problems, metrics. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Protocol

from mgmtnode.api.http import Disconnected, Receive, Reply, Request, Scope, Send
from mgmtnode.api.problems import STOPPING, Catalogue, headers_of, status_of
from mgmtnode.bus.context import CallContext, current
from mgmtnode.errors import INTERNAL, OVERLOADED, TIMEOUT, ApiError
from mgmtnode.ports import Rng

log = logging.getLogger(__name__)

App = Callable[[Scope, Receive, Send], Awaitable[None]]
PROBLEM = "application/problem+json"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
NO_TRACE = "0" * 32
HEALTH = ("/livez", "/readyz", "/metrics")


def identify(request_id: str, traceparent: str, rng: Rng) -> tuple[str, str]:
    """The id of a request, the caller's or a new one, and its trace: the caller's (W3C traceparent) or the id."""
    if not REQUEST_ID.fullmatch(request_id):
        request_id = f"{rng.bits(64):016x}"
    parent = TRACEPARENT.fullmatch(traceparent)
    return request_id, parent[1] if parent and parent[1] != NO_TRACE else request_id


class Observer(Protocol):
    """Hears of every request that was answered: its API's name, status, and seconds."""

    def request(self, api: str, status: int, seconds: float) -> None: ...


class Edge:
    """``in_flight`` counts the requests being answered; above ``limit`` they are refused, health excepted."""

    def __init__(self, catalogue: Catalogue, rng: Rng, observer: Observer, limit: int = 4096) -> None:
        self._catalogue, self._rng, self._observer, self._limit = catalogue, rng, observer, limit
        self.in_flight = 0
        self.stopping = False

    def endpoint(self, routes: Callable[[Request], Awaitable[Reply | None]]) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            request: Request = scope["mgmtnode.request"]
            reply = await routes(request)
            if reply is not None:
                await request.answer(reply)

        return _Asgi(app)

    def around(self, router: App) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._handle(router, Request(scope, receive, send))

        return app

    async def _handle(self, router: App, request: Request) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        trace = self._identify(request)
        reset = current.set(CallContext(trace=trace))
        self.in_flight += 1
        try:
            self._admit(request)
            request.scope["mgmtnode.request"] = request
            await router(request.scope, request.receive, request.send)
        except ApiError as exc:
            await self._refuse(request, exc)
        except TimeoutError:
            await self._refuse(request, TIMEOUT.error("no answer in time; the request may still take effect"))
        except Disconnected:
            request.status = 499
        except Exception:
            log.exception("the request %s %s failed", request.method, request.path[:200])
            await self._refuse(request, INTERNAL.error(request_id=request.request_id))
        finally:
            self.in_flight -= 1
            current.reset(reset)
            self._observer.request(request.api, request.status, loop.time() - began)

    def _identify(self, request: Request) -> str:
        """Gives the request its id and returns the trace: the caller's (W3C traceparent) or the id."""
        given = request.headers
        request.request_id, trace = identify(
            given.get("x-request-id", ""), given.get("traceparent", ""), self._rng
        )
        return trace

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


class _Asgi:
    """Starlette takes functions for its own kind of endpoint, and objects for ASGI applications."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
