"""The Transport port: carries batches of envelopes between nodes. The bus knows nothing else of the network.

    AmqpTransport     mgmtnode/bus/amqp.py     RabbitMQ
    RedisTransport    mgmtnode/bus/redis.py    Redis, for small installations
    MemoryTransport   mgmtnode/bus/memory.py   several buses in one process

It promises little: a batch arrives once, twice or never, batches of one sender usually in order. Deadlines,
resending and deduplication are the bus's. It never blocks the event loop and never buffers without bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a transport carried since it began: ``batches`` by what became of them, ``bytes`` sent and received.
    ``buffered``: bytes that wait to leave now."""

    batches: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    buffered: int = 0
    reconnects: int = 0


class Receiver(Protocol):
    """The bus, as a transport sees it. Called on the event loop. None of them raises."""

    def on_batch(self, batch: bytes) -> None:
        """A JSON list of envelopes has come."""
        ...

    def on_undeliverable(self, destination: str, batch: bytes) -> None:
        """This batch was sent to an address where nobody listens."""
        ...

    def on_reconnected(self) -> None:
        """The connection was lost and is back, and others can reach this node again: what was on its way is
        gone."""
        ...


class Transport(Protocol):
    @property
    def address(self) -> str:
        """Where other nodes reach this one: ``address_of(name, incarnation)``."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether what is sent now leaves at once."""
        ...

    @property
    def overloaded(self) -> bool:
        """Whether too much waits to leave; nothing more is sent until that has gone."""
        ...

    @property
    def traffic(self) -> Traffic: ...

    async def start(self, receiver: Receiver) -> None:
        """Connects. Returns after a bounded time even if it cannot, and then goes on trying."""
        ...

    async def stop(self) -> None:
        """Sends what is buffered (for a bounded time), and leaves: others learn that nobody listens here any
        more."""
        ...

    def renew(self) -> None:
        """Makes the connections anew: they look well, and nothing comes through."""
        ...

    def send(self, destination: str, envelopes: Sequence[bytes]) -> None:
        """To one address. Always takes them: who sends asks ``overloaded`` first, so the excess is one loop
        turn's."""
        ...

    def publish(self, envelopes: Sequence[bytes]) -> None:
        """To every node; this one may hear itself."""
        ...


def address_of(name: str, incarnation: int) -> str:
    """The address of one incarnation of a node; also the name of its queue."""
    return f"mgmtnode.node.{name}.{incarnation}"
