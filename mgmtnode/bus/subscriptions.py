"""Who hears which events on this node."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from typing import Any, TypeVar

import msgspec

from mgmtnode.bus.dispatch import Dispatcher
from mgmtnode.bus.message import Event, type_name

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Event)
MAX_WAITING = 10_000


class Subscription:
    """One subscriber. Events about one resource reach it one after the other, in their order; a slow one
    delays only itself, and loses events (counted) once MAX_WAITING wait: an event is heard at most once."""

    def __init__(
        self, event_type: type[Event], fn: Callable[[Any], Awaitable[None]], dispatcher: Dispatcher
    ) -> None:
        self.event_type, self._fn, self._dispatcher = event_type, fn, dispatcher
        self.name = f"{getattr(fn, '__qualname__', fn)} on {event_type.__name__}"
        self.waiting = self.lost = self.failed = 0
        self._queues: dict[str, deque[Event]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    def hear(self, event: Event) -> None:
        if self.waiting >= MAX_WAITING:
            self.lost += 1
            return
        self.waiting += 1
        queue = self._queues.get(event.resource_uuid)
        if queue is not None:
            queue.append(event)
            return
        self._queues[event.resource_uuid] = queue = deque((event,))
        # An empty context: what a subscriber does is no part of the call during which the event was
        # published.
        task = asyncio.get_running_loop().create_task(
            self._tell(event.resource_uuid, queue), context=Context()
        )
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _tell(self, resource: str, queue: deque[Event]) -> None:
        try:
            while queue:
                if not await self._dispatcher.tell(self.name, self._fn, queue.popleft()):
                    self.failed += 1
                self.waiting -= 1
        finally:
            self.waiting -= len(queue)
            del self._queues[resource]

    def cancel(self) -> list[asyncio.Task[None]]:
        for task in self._tasks:
            task.cancel()
        return list(self._tasks)


class Ear:
    """A listener: told as the event comes, without a task. What it does is short, and it does not wait."""

    waiting = lost = 0

    def __init__(self, event_type: type[Event], fn: Callable[[Any], None]) -> None:
        self.event_type, self._fn = event_type, fn
        self.name = f"{getattr(fn, '__qualname__', fn)} on {event_type.__name__}"
        self.failed = 0

    def hear(self, event: Event) -> None:
        try:
            self._fn(event)
        except Exception:
            self.failed += 1
            log.exception("%s failed", self.name)

    def cancel(self) -> list[asyncio.Task[None]]:
        return []


class Subscriptions:
    """All subscriptions of a node, and the event types it knows by name."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._all: list[Subscription | Ear] = []
        self._matching: dict[type[Event], list[Subscription | Ear]] = {}
        self._types: dict[str, type[Event]] = {}
        self._decoders: dict[type[Event], msgspec.json.Decoder[Event]] = {}
        self.woken: list[Callable[[], None]] = []

    def subscribe(self, event_type: type[E], fn: Callable[[E], Awaitable[None]]) -> None:
        """A base class hears all its subclasses that are declared or subscribed to."""
        self._add(Subscription(event_type, fn, self._dispatcher))

    def listen(self, event_type: type[E], fn: Callable[[E], None]) -> None:
        self._add(Ear(event_type, fn))

    def _add(self, one: Subscription | Ear) -> None:
        self._all.append(one)
        self._matching.clear()
        self.declare([one.event_type])

    def declare(self, event_types: Iterable[type[Event]]) -> None:
        """Makes event types known by name, so that they can be told from other nodes' messages."""
        for event_type in event_types:
            self._types.setdefault(type_name(event_type), event_type)

    def hear(self, event: Event) -> None:
        for subscription in self._of(type(event)):
            subscription.hear(event)

    def _of(self, event_type: type[Event]) -> list[Subscription | Ear]:
        matching = self._matching.get(event_type)
        if matching is None:
            matching = [s for s in self._all if issubclass(event_type, s.event_type)]
            self._matching[event_type] = matching
        return matching

    def hear_remote(self, name: str, body: msgspec.Raw) -> None:
        """An event nobody here knows (from a newer release) or cares for is not even read."""
        for wake in self.woken:
            wake()
        event_type = self._types.get(name)
        if event_type is None or not self._of(event_type):
            return
        decoder = self._decoders.get(event_type)
        if decoder is None:
            decoder = self._decoders[event_type] = msgspec.json.Decoder(event_type)
        try:
            event = decoder.decode(body)
        except msgspec.DecodeError as exc:
            log.warning("event %s from another node cannot be read: %s", name, exc)
            return
        self.hear(event)

    @property
    def waiting(self) -> int:
        return sum(s.waiting for s in self._all)

    @property
    def lost(self) -> int:
        return sum(s.lost for s in self._all)

    def snapshot(self) -> list[dict[str, Any]]:
        return [{"name": s.name, "waiting": s.waiting, "lost": s.lost, "failed": s.failed} for s in self._all]

    def cancel(self) -> list[asyncio.Task[None]]:
        """Stops all subscribers; returns what has not ended yet."""
        return [task for subscription in self._all for task in subscription.cancel()]
