"""Gathers what is sent to one node during one turn of the event loop, so that it travels in one message."""

from __future__ import annotations

import asyncio

from mgmtnode.bus.transport import Transport
from mgmtnode.errors import OVERLOADED

MAX_GATHERED = 20_000
EVENTS_WAIT = 0.02


class Outgoing:
    """AMQP costs 40 to 100 µs of Python a message whatever its size: the batch is what makes the bus fast. What is told
    to all costs that on every node, so events wait EVENTS_WAIT seconds for company, or for one that cannot wait."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._batches: dict[str, list[bytes]] = {}
        self._count = 0
        self._events: list[bytes] = []
        self._telling: asyncio.Handle | None = None
        self._prompt = False

    def send(self, destination: str, data: bytes) -> None:
        """Raises ``core.overloaded`` at once rather than buffer without bound."""
        self._refuse_excess()
        if not self._count:
            asyncio.get_running_loop().call_soon(self._send_all)
        self._count += 1
        batch = self._batches.get(destination)
        if batch is None:
            self._batches[destination] = [data]
        else:
            batch.append(data)

    def tell_all(self, event: bytes, *, prompt: bool) -> None:
        """To every node, in order. Raises ``core.overloaded`` as ``send`` does."""
        self._refuse_excess()
        self._events.append(event)
        if self._telling is None or (prompt and not self._prompt):
            self._tell_later(prompt)

    def flush(self) -> None:
        """What has been gathered goes now."""
        self._tell()
        self._send_all()

    def _refuse_excess(self) -> None:
        if self._count + len(self._events) >= MAX_GATHERED or self._transport.overloaded:
            raise OVERLOADED.error("too much waits to be sent to other nodes", retry_after=1.0)

    def _tell_later(self, prompt: bool) -> None:
        loop = asyncio.get_running_loop()
        if self._telling is not None:
            self._telling.cancel()
        self._telling = loop.call_soon(self._tell) if prompt else loop.call_later(EVENTS_WAIT, self._tell)
        self._prompt = prompt

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        events, self._events = self._events, []
        self._telling, self._prompt = None, False
        if events:
            self._transport.publish(events)

    def _send_all(self) -> None:
        batches, self._batches, self._count = self._batches, {}, 0
        for destination, batch in batches.items():
            self._transport.send(destination, batch)
