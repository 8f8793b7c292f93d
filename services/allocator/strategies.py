"""The strategies that come with the product: each orders the hosts that passed the filters."""

from __future__ import annotations

from mgmtnode.contracts.allocator import Candidate, ReserveHost
from mgmtnode.db.session import Tx
from mgmtnode.ports import Rng
from mgmtnode.ring.slots import Slots


class LeastVmPreferred:
    """The fewest VMs first, then the most free memory. Of equals those that this node looks after, which it can
    command without asking another one, and where others seldom place at the same time; then in random order."""

    fullest_first = False

    def __init__(self, slots: Slots, rng: Rng) -> None:
        self._slots, self._rng = slots, rng

    def sort(self, tx: Tx, request: ReserveHost, candidates: list[Candidate]) -> list[Candidate]:
        def rank(host: Candidate) -> tuple[int, int, bool, int]:
            elsewhere = not self._slots.mine(host.host_uuid)
            return host.vms, -host.memory_free, elsewhere, self._rng.bits(16)

        return sorted(candidates, key=rank)


class Random:
    fullest_first = False

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def sort(self, tx: Tx, request: ReserveHost, candidates: list[Candidate]) -> list[Candidate]:
        return sorted(candidates, key=lambda c: self._rng.bits(32))


class LastHostPreferred(LeastVmPreferred):
    """Where the VM ran last, if it can be had; then as LeastVmPreferred."""

    def sort(self, tx: Tx, request: ReserveHost, candidates: list[Candidate]) -> list[Candidate]:
        ordered = super().sort(tx, request, candidates)
        return sorted(ordered, key=lambda c: c.host_uuid != request.last_host_uuid)


class Packed:
    """The fullest host that still fits first: leaves whole hosts empty."""

    fullest_first = True

    def sort(self, tx: Tx, request: ReserveHost, candidates: list[Candidate]) -> list[Candidate]:
        return sorted(candidates, key=lambda c: (c.memory_free, c.cpu_free, c.host_uuid))
