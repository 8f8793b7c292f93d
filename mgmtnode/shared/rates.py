"""How many requests an account may make: counted by all nodes together where they can, else by each alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.jobs.job import Caller
from mgmtnode.ports import Clock
from mgmtnode.shared.port import Shared, Window
from mgmtnode.telemetry.families import REQUESTS_LIMITED
from mgmtnode.telemetry.metrics import Metrics

REQUESTS_PER_SECOND = GlobalConfig(
    "api.requests_per_second",
    0,
    "Requests that one account may make, its users' included; accounts of the operator may make more. With Redis "
    "all nodes count together, without it each counts alone. 0: any number",
    low=0,
    high=100_000,
)
TOO_MANY = ErrorCode("api.too-many-requests", Category.UNAVAILABLE, "the account makes too many requests")
KEPT = 10_000


class NodeRates:
    """The generic cell rate algorithm: an account has one moment, when what it took would be used up at its rate; it
    may be one second ahead. At most ``KEPT`` accounts are remembered, those that asked last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()

    def take(self, account: str, per_second: int) -> float:
        """0, or the seconds until one more fits."""
        now = self._clock.monotonic()
        due = max(now, self._due.get(account, now))
        ahead = due - now - (1.0 - 1.0 / per_second)
        if ahead > 1e-9:
            return ahead
        self._due[account] = due + 1.0 / per_second
        self._due.move_to_end(account)
        if len(self._due) > KEPT:
            self._due.popitem(last=False)
        return 0.0


class Rates:
    """Asked once for each request, when it is known whose it is."""

    def __init__(self, shared: Shared, clock: Clock, metrics: Metrics, per_second: Callable[[], int]) -> None:
        self._shared, self._metrics, self._per_second = shared, metrics, per_second
        self._alone = NodeRates(clock)

    async def admit(self, caller: Caller) -> None:
        """Raises api.too-many-requests."""
        limit = self._per_second()
        if not limit or caller.admin:
            return
        account = caller.account_uuid
        fits = await self._shared.take(f"requests:{account}", Window(limit, 1))
        wait = self._alone.take(account, limit) if fits is None else 0.0 if fits else 1.0
        if wait:
            self._metrics.count(REQUESTS_LIMITED)
            raise TOO_MANY.error(f"the account may make {limit} requests a second", retry_after=wait)
