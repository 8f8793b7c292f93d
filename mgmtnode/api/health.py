"""Is the process alive, may it get requests, and its numbers: /livez, /readyz, /metrics. No token needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

import msgspec

from mgmtnode.api.http import Reply, Request
from mgmtnode.api.parameters import Parameters
from mgmtnode.api.paths import Endpoint
from mgmtnode.errors import from_exception

CHECK_SECONDS = 2.0
FRESH_SECONDS = 0.5

Check = Callable[[], Awaitable[str | None]]
"""Returns what is wrong, or None; raising is wrong as well."""


class Checked(msgspec.Struct, frozen=True):
    name: str
    ok: bool
    seconds: float
    reason: str | None = None
    required: bool = True


class Health:
    """``checks`` by name. ``draining``: the node still answers, but wants no new requests."""

    def __init__(self, checks: Mapping[str, Check], metrics: Callable[[], bytes], metrics_type: str) -> None:
        self._checks, self._metrics, self._metrics_type = dict(checks), metrics, metrics_type
        self._advisory: dict[str, Check] = {}
        self.draining = False
        self._running: asyncio.Task[list[Checked]] | None = None
        self._at = float("-inf")

    def routes(self) -> Iterator[tuple[str, str, Endpoint, str]]:
        yield "GET", "/livez", self._live, "livez"
        yield "GET", "/readyz", self._ready, "readyz"
        yield "GET", "/metrics", self._numbers, "metrics"

    def advise(self, name: str, check: Check) -> None:
        """Shows a check that fails with the others, but the node stays ready: what it does without is not what a
        load balancer sends it."""
        self._advisory[name] = check

    async def check(self) -> list[Checked]:
        """All checks, at once, each within CHECK_SECONDS. Asked often, they run once: anybody may ask."""
        now = asyncio.get_running_loop().time()
        if self._running is None or (self._running.done() and now - self._at > FRESH_SECONDS):
            self._running, self._at = asyncio.ensure_future(self._all()), now
        return await asyncio.shield(self._running)

    async def _live(self, request: Request) -> Reply:
        # Whoever reads this answer knows that the event loop turns.
        return Reply({"status": "ok"})

    async def _ready(self, request: Request) -> Reply:
        params = Parameters(request.scope["query_string"])
        verbose = params.flag("verbose")
        params.finish()
        results = [] if self.draining else await self.check()
        ready = not self.draining and all(r.ok for r in results if r.required)
        body: dict[str, object] = {"ready": ready}
        if self.draining:
            body["reason"] = "the node is stopping"
        elif verbose:
            body["checks"] = results
        elif not ready:
            body["failed"] = [r.name for r in results if r.required and not r.ok]
        return Reply(body, 200 if ready else 503)

    async def _numbers(self, request: Request) -> Reply:
        return Reply(self._metrics(), media_type=self._metrics_type)

    async def _all(self) -> list[Checked]:
        required = (_run(name, check) for name, check in self._checks.items())
        advisory = (_run(name, check, required=False) for name, check in self._advisory.items())
        return list(await asyncio.gather(*required, *advisory))


async def _run(name: str, check: Check, required: bool = True) -> Checked:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            reason = await check()
    except TimeoutError:
        reason = f"no answer within {CHECK_SECONDS:g} s"
    except Exception as exc:  # whatever a part raises, its check has failed and the others count
        reason = str(from_exception(exc))[:200]
    return Checked(name, reason is None, round(loop.time() - began, 6), reason, required)
