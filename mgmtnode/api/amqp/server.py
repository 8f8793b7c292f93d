"""The AMQP API of one node: its links, its desk, and the two tasks that tell ends and events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from mgmtnode.api.amqp.desk import Desk
from mgmtnode.api.amqp.ends import Ends
from mgmtnode.api.amqp.feed import Feed
from mgmtnode.api.amqp.intake import Delivery, Intake, Verdict
from mgmtnode.api.amqp.outlet import Fate, Outgoing, Outlet
from mgmtnode.api.events import EventSource
from mgmtnode.api.gateway import Gateway
from mgmtnode.api.problems import Catalogue
from mgmtnode.bus.amqp_link import Broker
from mgmtnode.bus.link import STOP_TIMEOUT
from mgmtnode.db.session import Database
from mgmtnode.errors import ApiError
from mgmtnode.jobs.ending import JobEnded
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.ports import Rng
from mgmtnode.ring.slots import Slots
from mgmtnode.telemetry.families import AMQP_MESSAGES
from mgmtnode.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

FINISH_SECONDS = 5.0
RETRY_SECONDS = 1.0
MOST_WAITING = 2000  # messages on their way out, above which no more requests are taken


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the AMQP API needs of its node."""

    name: str
    gateway: Gateway
    catalogue: Catalogue
    db: Database
    slots: Slots
    jobs: JobRepository
    events: EventSource
    rng: Rng
    telemetry: Telemetry


class AmqpApi:
    """``start`` does not wait for the broker; ``stop`` within about FINISH_SECONDS and twice
    STOP_TIMEOUT. A message is acknowledged when what it asked for is committed and its answer is with the broker."""

    def __init__(self, url: str, prefetch: int, node: Surroundings, *, ca: str = "") -> None:
        broker = Broker(url, node.rng, ca)
        self._gateway = node.gateway
        self._loop: asyncio.AbstractEventLoop
        self._changes = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()
        self._telling: list[asyncio.Task[None]] = []
        self._stopping = False
        self.outlet = Outlet(f"{node.name} amqp api out", broker, self._changed)
        self.intake = Intake(
            f"{node.name} amqp api in",
            broker,
            self._changed,
            prefetch=prefetch,
            deliver=self._begin,
            open_for_more=self._open_for_more,
        )
        self.ends = Ends(node.db, node.slots, node.jobs, self.outlet)
        self.feed = Feed(node.db, node.slots, node.events, self.outlet)
        node.telemetry.metrics.read(AMQP_MESSAGES, self.depths)
        self._desk = Desk(node.gateway, node.catalogue, self.ends, rng=node.rng, telemetry=node.telemetry)

    def heard(self, event: JobEnded) -> None:
        """Whoever builds this has it listen to the bus."""
        self.ends.heard(event)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.feed.begin()
        self.intake.start()
        self.outlet.start()
        for name, turn in (("ends of jobs", self.ends.turn), ("events", self.feed.turn)):
            self._telling.append(asyncio.create_task(_for_ever(name, turn), name=f"amqp: {name}"))

    async def stop(self) -> None:
        """Takes no more, answers what it has taken, and leaves the rest to other nodes."""
        self._stopping = True
        self.intake.wake()
        if self._serving:
            await asyncio.wait(self._serving, timeout=FINISH_SECONDS)
        await _end([*self._serving, *self._telling])
        self.intake.stop()
        self.outlet.stop()
        async with _within(2 * STOP_TIMEOUT):
            while not (self.intake.ended and self.outlet.ended):
                await self._changes.wait()

    async def check(self) -> str | None:
        """What is wrong with the broker, if something is."""
        if not (self.intake.connected and self.outlet.connected):
            return "the broker of the AMQP API cannot be reached"
        if self.outlet.blocked:
            return "the broker of the AMQP API takes no messages"
        return None if self.intake.consuming else "no requests are taken from the queue of the AMQP API"

    def depths(self) -> dict[str, float]:
        return {"requests": float(self.intake.in_flight), "outgoing": float(self.outlet.waiting)}

    def _open_for_more(self) -> bool:
        return not self._stopping and not self._gateway.closing and self.outlet.waiting < MOST_WAITING

    def _changed(self) -> None:
        self._changes.set()
        self._changes = asyncio.Event()

    def _begin(self, delivery: Delivery) -> None:
        if self._stopping:
            self.intake.abandon()
            return
        task = self._loop.create_task(self._serve(delivery))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, delivery: Delivery) -> None:
        verdict: Verdict | None = None
        try:
            messages = await self._desk.answer(delivery)
            verdict = await self._sent(delivery.session, messages) if messages else Verdict.BURY
        except Exception:
            log.exception("a request could not be answered")
            verdict = Verdict.BURY
        finally:  # also when this task is cancelled: then it is given to another node
            if verdict is None:
                self.intake.abandon()
            else:
                self.intake.settle(delivery, verdict)

    async def _sent(self, session: int, messages: list[Outgoing]) -> Verdict | None:
        """Once the answer is with the broker, or cannot be; None when the broker gives the request to somebody else."""
        sending = asyncio.ensure_future(self.outlet.send(messages))
        over = asyncio.ensure_future(self._over(session))
        try:
            await asyncio.wait({sending, over}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                return None
            return Verdict.AGAIN if Fate.UNSENT in sending.result() else Verdict.DONE
        finally:
            sending.cancel()
            over.cancel()

    async def _over(self, session: int) -> None:
        while self.intake.connected and self.intake.sessions == session:
            await self._changes.wait()


async def _for_ever(name: str, turn: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await turn()
        except ApiError as error:
            log.warning("AMQP API, %s: %s", name, error)
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:
            log.exception("AMQP API, %s", name)
            await asyncio.sleep(RETRY_SECONDS)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield
