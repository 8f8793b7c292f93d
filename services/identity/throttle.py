"""Slowing down who guesses passwords."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from mgmtnode.contracts.session import LOGIN_LOCKED
from mgmtnode.ports import Clock
from mgmtnode.shared.port import Shared, Window

KEPT = 10_000


class LoginThrottle(Protocol):
    """Counts failed logins by name. Names that do not exist are counted like those that do."""

    async def check(self, name: str) -> None:
        """Raises session.login-locked while ``name`` is locked."""
        ...

    async def failed(self, name: str) -> None: ...

    async def succeeded(self, name: str) -> None: ...


class _Failures(msgspec.Struct):
    count: int
    last: float


class NodeThrottle:
    """Counts in the memory of one node: a cluster of n nodes allows n times as many guesses. At most ``KEPT``
    names are remembered, those that failed last."""

    def __init__(self, clock: Clock, attempts: Callable[[], int], lock_seconds: Callable[[], int]) -> None:
        self._clock, self._attempts, self._lock_seconds = clock, attempts, lock_seconds
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    async def check(self, name: str) -> None:
        found = self._failures.get(name)
        if found is None:
            return
        left = found.last + self._lock_seconds() - self._clock.monotonic()
        if left <= 0:
            del self._failures[name]
        elif found.count >= self._attempts():
            raise LOGIN_LOCKED.error(retry_after=round(left, 1))

    async def failed(self, name: str) -> None:
        found = self._failures.setdefault(name, _Failures(0, 0.0))
        found.count += 1
        found.last = self._clock.monotonic()
        self._failures.move_to_end(name)
        if len(self._failures) > KEPT:
            self._failures.popitem(last=False)

    async def succeeded(self, name: str) -> None:
        self._failures.pop(name, None)


class ClusterThrottle:
    """Counts with the other nodes, too, as far as they share anything; ``node`` holds whatever they say."""

    def __init__(
        self, shared: Shared, node: NodeThrottle, attempts: Callable[[], int], lock_seconds: Callable[[], int]
    ) -> None:
        self._shared, self._node = shared, node
        self._attempts, self._lock_seconds = attempts, lock_seconds

    async def check(self, name: str) -> None:
        await self._node.check(name)
        if left := await self._shared.full_for(_key(name), self._window):
            raise LOGIN_LOCKED.error(retry_after=round(left, 1))

    async def failed(self, name: str) -> None:
        await self._node.failed(name)
        await self._shared.note(_key(name), self._window)

    async def succeeded(self, name: str) -> None:
        await self._node.succeeded(name)
        await self._shared.clear(_key(name), self._window)

    @property
    def _window(self) -> Window:
        return Window(self._attempts(), self._lock_seconds())


def _key(name: str) -> str:
    """A name may be any text, and is nobody else's business."""
    return f"logins:{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()}"
