"""Things a node does again and again: heartbeats of the mind, sweeps, pings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass

from mgmtnode.errors import log_failure
from mgmtnode.ports import Rng

log = logging.getLogger(__name__)

Interval = float | Callable[[], float]
SHORTEST = 0.001
UNKNOWN_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class RunnerState:
    """One runner as an operator sees it. ``error`` is that of the last round that failed."""

    name: str
    runs: int
    failures: int
    running: bool
    error: str


class Periodic:
    """Named runners. One never overlaps with itself, and an exception ends a round, never the runner."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._runners: dict[str, Runner] = {}

    def every(
        self,
        name: str,
        seconds: Interval,
        fn: Callable[[], Awaitable[object]],
        *,
        jitter: float = 0.1,
        at_once: bool = False,
    ) -> Runner:
        """Runs ``fn``, waits ``seconds`` (asked again each round if callable), runs it again. ``jitter``: the
        wait is drawn from that share around it, so that nodes do not march in step. The first round comes
        after one wait unless ``at_once``. Needs a running loop. Raises ValueError when the name is taken."""
        if name in self._runners:
            raise ValueError(f"there is a periodic runner {name!r} already")
        runner = self._runners[name] = Runner(name, fn, lambda: self._pause(seconds, jitter))
        runner.start(at_once, on_end=lambda: self._runners.pop(name, None))
        return runner

    async def stop(self) -> None:
        """Ends all runners; a round in progress is cancelled."""
        runners = list(self._runners.values())
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*(runner.ended() for runner in runners))

    def snapshot(self) -> list[RunnerState]:
        return [runner.state() for runner in self._runners.values()]

    def _pause(self, seconds: Interval, jitter: float) -> float:
        base = seconds() if callable(seconds) else seconds
        return max(SHORTEST, base * self._rng.uniform(1 - jitter, 1 + jitter))


class Runner:
    """One named loop; ``poke`` begins the next round now."""

    def __init__(self, name: str, fn: Callable[[], Awaitable[object]], pause: Callable[[], float]) -> None:
        self.name = name
        self.runs = self.failures = 0
        self.error = ""
        self._fn, self._pause = fn, pause
        self._running = self._poked = False
        self._wake: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, at_once: bool, on_end: Callable[[], object]) -> None:
        # A context of its own: a runner started inside a call must not inherit the call's deadline.
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._rounds(at_once), name=f"periodic {self.name}", context=Context())
        self._task.add_done_callback(lambda _: on_end())

    def poke(self) -> None:
        """The next round begins at once, or right after the one that runs."""
        self._poked = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    def state(self) -> RunnerState:
        return RunnerState(self.name, self.runs, self.failures, self._running, self.error)

    async def _rounds(self, at_once: bool) -> None:
        if not at_once:
            await self._sleep()
        while True:
            self._poked = False
            await self._round()
            await self._sleep()

    async def _round(self) -> None:
        self._running = True
        try:
            await self._fn()
        except Exception as exc:
            self._failed(exc)
        finally:
            self.runs += 1
            self._running = False

    async def _sleep(self) -> None:
        try:
            pause = self._pause()
        except Exception as exc:
            self._failed(exc)
            pause = UNKNOWN_INTERVAL
        if self._poked:
            return
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = loop.call_later(pause, self.poke)
        try:
            await self._wake
        finally:
            timer.cancel()

    def _failed(self, exc: Exception) -> None:
        self.failures += 1
        self.error = f"{type(exc).__name__}: {exc}"
        log_failure(log, exc, "periodic %s failed", self.name)
