"""Publishes the event log on the exchange of events: one node at a time, in the order of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from mgmtnode.api.amqp import repository
from mgmtnode.api.amqp.ends import Sender
from mgmtnode.api.amqp.outlet import Fate, Outgoing
from mgmtnode.api.amqp.topology import EVENTS
from mgmtnode.api.events import BEGINNING, EventSource, before, place
from mgmtnode.db.session import Database
from mgmtnode.jobs.job import SYSTEM
from mgmtnode.ring.slots import Slots

READER = "amqp"
# Its slot's owner publishes. Drawn once, and the same for ever and everywhere.
DUTY = "019e5b1c-7f00-7a11-8e4d-0a6d71a9e001"
BATCH = 200
GATHER_SECONDS = 0.02  # between batches that are not full: each costs two transactions, whatever it holds
POLL_SECONDS = 1.0
DUTY_SECONDS = 0.25  # between two looks whether this node has the duty
RESET = "events.reset"


class Feed:
    """How far it came is a row, moved when the broker has the events: they come at least once, with their id as
    ``message_id``. A node that loses the duty meanwhile finds the row moved, and stops."""

    def __init__(self, db: Database, slots: Slots, log: EventSource, sender: Sender) -> None:
        self._db, self._slots, self._log, self._sender = db, slots, log, sender
        self._position: str | None = None

    async def begin(self) -> str:
        """Where the last one left off. A feed that is new begins here and now."""
        head = await self._log.head()
        return await self._db.write(lambda tx: repository.begin(tx, READER, head))

    async def turn(self) -> None:
        """Publishes a batch, or waits for something to publish."""
        if not (self._sender.connected and self._slots.mine(DUTY)):
            self._position = None
            await asyncio.sleep(DUTY_SECONDS)
            return
        changed = asyncio.ensure_future(self._log.changed(POLL_SECONDS))
        try:
            if (count := await self._publish()) == 0:
                await changed
            elif count < BATCH:
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            changed.cancel()

    async def _publish(self) -> int:
        """How many events there were."""
        at = self._position or await self._resume()
        events = await self._log.read(at, BATCH, SYSTEM)
        if not events:
            self._position = at
            return 0
        fates = await self._sender.send([message_of(event) for event in events])
        sent = [event for event, fate in zip(events, fates, strict=True) if fate is not Fate.UNSENT]
        # Up to the first that did not go, so that none is passed over.
        whole = events[: _matching(events, sent)]
        self._position = await self._advance(at, whole[-1].id) if whole else at
        return len(events)

    async def _resume(self) -> str:
        """A feed that comes too late for some events says so."""
        at, oldest = await self.begin(), await self._log.oldest()
        if oldest is None or at == BEGINNING or place(at) >= before(oldest):
            return at
        head = await self._log.head()
        await self._sender.send([_reset(at, head)])
        return await self._advance(at, head) or head

    async def _advance(self, old: str, new: str) -> str | None:
        """The new position; None if another node has moved it: what this one knows is out of date."""
        moved = await self._db.write(lambda tx: repository.advance(tx, READER, old, new))
        return new if moved else None


def _matching(events: Sequence[Any], sent: Sequence[Any]) -> int:
    pairs = zip(events, sent, strict=False)
    return next((n for n, (event, other) in enumerate(pairs) if event is not other), len(sent))


class _Logged(Protocol):
    id: str
    name: str
    resource_type: str
    resource_uuid: str
    account_uuid: str
    revision: int


def message_of(event: _Logged) -> Outgoing:
    """The same JSON that the event stream of REST has."""
    properties = {"type": event.name, "message_id": event.id}
    headers = {
        "resource_type": event.resource_type,
        "resource_uuid": event.resource_uuid,
        "account_uuid": event.account_uuid,
        "revision": event.revision,
    }
    body = msgspec.json.encode(event)
    return Outgoing(event.name, body, properties, headers=headers, exchange=EVENTS)


def _reset(at: str, head: str) -> Outgoing:
    body = {"reason": "events are gone that were never told here; list again", "from": at, "to": head}
    properties = {"type": RESET, "message_id": f"{at}.reset"}
    return Outgoing(RESET, msgspec.json.encode(body), properties, exchange=EVENTS)
