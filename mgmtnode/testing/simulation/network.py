"""The bus between simulated nodes: a broker with a queue for each incarnation, on lines that can be bad."""

from __future__ import annotations

from collections.abc import Callable

from mgmtnode.bus.memory import Hub, MemoryTransport
from mgmtnode.bus.transport import Receiver
from mgmtnode.testing.simulation.lines import Lines
from mgmtnode.testing.simulation.loop import VirtualLoop, current_node

Report = Callable[[str, str], None]


class Network(Hub):
    """A message goes from node to node in one hop, which stands for those to the broker and on: the line ``a>b``.

    While the broker is ``down`` nothing gets through. The queue of a killed node stays for a while and swallows what
    is sent there, as a real one does; then what is sent there comes back.
    """

    def __init__(self, loop: VirtualLoop, lines: Lines, report: Report) -> None:
        super().__init__()
        self._loop, self._lines, self._report = loop, lines, report
        self._nodes: dict[str, str] = {}
        self._down = 0

    @property
    def down(self) -> bool:
        return self._down > 0

    def transport(self, address: str) -> MemoryTransport:
        return BrokenTransport(self, address)

    def join(self, address: str, receiver: Receiver) -> None:
        self._nodes[address] = current_node.get()
        super().join(address, receiver)

    def stop_broker(self) -> None:
        self._down += 1

    def start_broker(self) -> None:
        """What was on its way is gone, and the nodes hear that they are connected again."""
        self._down -= 1
        if self._down:
            return
        for address, receiver in self._listening.items():
            self._loop.call_soon(receiver.on_reconnected, context=self._loop.context_of(self._nodes[address]))

    def carry(self, source: str, destination: str, batch: bytes) -> None:
        line = self._lines.line(machine(source), machine(destination))
        for _ in range(1 + line.twice()):
            way = None if self.down else line.there()
            if way is None:
                self._report(machine(source), f"a message to {machine(destination)} is lost")
            else:
                at = self._loop.context_of(self._nodes.get(destination, ""))
                self._loop.call_later(way, self._arrive, source, destination, batch, context=at)

    def _arrive(self, source: str, destination: str, batch: bytes) -> None:
        if self.down:
            return
        if receiver := self._listening.get(destination):
            receiver.on_batch(batch)
        elif sender := self._listening.get(source):
            back = self._loop.context_of(self._nodes[source])
            self._loop.call_soon(sender.on_undeliverable, destination, batch, context=back)


class BrokenTransport(MemoryTransport):
    """Knows when the broker is away."""

    def __init__(self, network: Network, address: str) -> None:
        super().__init__(network, address)
        self._network = network

    @property
    def healthy(self) -> bool:
        return super().healthy and not self._network.down


def machine(address: str) -> str:
    """The name of the node in the address of one of its incarnations."""
    return address.rsplit(".", 2)[-2]
