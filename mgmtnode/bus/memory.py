"""A transport inside one process: for the embedded default (one node), for tests, and for the simulated
cluster."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from mgmtnode.bus.envelope import pack
from mgmtnode.bus.transport import Receiver, Traffic

Deliver = Callable[[], None]
Schedule = Callable[[str, str, Deliver], None]


def _at_once(source: str, destination: str, deliver: Deliver) -> None:
    asyncio.get_running_loop().call_soon(deliver)


class Hub:
    """What connects the buses. ``schedule(source, destination, deliver)`` decides when a batch arrives: in
    the next turn of the loop by default; a simulation delays, drops, repeats or reorders by calling
    ``deliver`` as it likes."""

    def __init__(self, schedule: Schedule = _at_once) -> None:
        self.schedule = schedule
        self._listening: dict[str, Receiver] = {}
        self.received: Counter[str] = Counter()

    def transport(self, address: str) -> MemoryTransport:
        return MemoryTransport(self, address)

    def join(self, address: str, receiver: Receiver) -> None:
        self._listening[address] = receiver

    def leave(self, address: str) -> None:
        """Nobody listens at ``address`` any more; what is on its way there is returned to its sender."""
        self._listening.pop(address, None)

    def carry(self, source: str, destination: str, batch: bytes) -> None:
        self.schedule(source, destination, lambda: self._arrive(source, destination, batch))

    def carry_to_all(self, source: str, batch: bytes) -> None:
        for destination in list(self._listening):
            if destination != source:
                self.carry(source, destination, batch)

    def _arrive(self, source: str, destination: str, batch: bytes) -> None:
        if receiver := self._listening.get(destination):
            self.received[destination] += 1
            receiver.on_batch(batch)
        elif sender := self._listening.get(source):
            sender.on_undeliverable(destination, batch)


class MemoryTransport:
    """One bus's end of the hub."""

    def __init__(self, hub: Hub, address: str) -> None:
        self._hub, self._address = hub, address
        self._started = False
        self._sent = self._sent_bytes = 0

    @property
    def address(self) -> str:
        return self._address

    @property
    def healthy(self) -> bool:
        return self._started

    @property
    def overloaded(self) -> bool:
        return False

    @property
    def traffic(self) -> Traffic:
        received = self._hub.received[self._address]
        return Traffic({"sent": self._sent, "received": received}, {"sent": self._sent_bytes})

    async def start(self, receiver: Receiver) -> None:
        self._hub.join(self._address, receiver)
        self._started = True

    async def stop(self) -> None:
        self._started = False
        self._hub.leave(self._address)

    def renew(self) -> None:
        """There is no connection."""

    def send(self, destination: str, envelopes: Sequence[bytes]) -> None:
        for batch in self._counted(envelopes):
            self._hub.carry(self._address, destination, batch)

    def publish(self, envelopes: Sequence[bytes]) -> None:
        for batch in self._counted(envelopes):
            self._hub.carry_to_all(self._address, batch)

    def _counted(self, envelopes: Sequence[bytes]) -> Iterator[bytes]:
        for batch in pack(envelopes):
            self._sent += 1
            self._sent_bytes += len(batch)
            yield batch
