"""Handing out addresses: the ledger decides who gets one, this decides which are tried, and in which order."""

from __future__ import annotations

from mgmtnode.contracts.network import IpStrategy
from mgmtnode.contracts.nic import ADDRESS_FOREIGN, ADDRESS_TAKEN, NO_ADDRESS
from mgmtnode.db.session import Tx
from mgmtnode.jobs import ledger
from mgmtnode.ports import Clock
from mgmtnode.service import NodeContext
from services.network.addresses import number_of, text_of
from services.network.repository.l3 import L3Repository
from services.network.repository.nics import NicRepository, OpenNetwork

KIND = "ip"
LEAPS = 4  # gaps tried before all addresses of the network are read
MOMENT = 1.0  # seconds
FLOORS_KEPT = 1024


class Floors:
    """Below which address all were taken a moment ago, on networks that give the lowest free one.

    A burst of new NICs need not walk over the same addresses again and again, or wait for each other's commit. What
    another node frees below is seen after that moment; what this node frees, at once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[int, float]] = {}

    def get(self, network_uuid: str) -> int:
        floor, until = self._known.get(network_uuid, (0, 0.0))
        return floor if self._clock.monotonic() < until else 0

    def set(self, network_uuid: str, floor: int) -> None:
        now = self._clock.monotonic()
        _, until = self._known.get(network_uuid, (0, 0.0))
        if len(self._known) >= FLOORS_KEPT:
            self._known.clear()
        self._known[network_uuid] = (floor, until if now < until else now + MOMENT)

    def forget(self, network_uuid: str) -> None:
        self._known.pop(network_uuid, None)


class IpAllocator:
    """Addresses are units of the ledger's pool of their L3 network, held by the VM: freed, or quarantined, with it.

    An allocation costs two statements on a quiet network: an address that follows from the strategy is simply tried,
    and the unique index of the ledger says whether it was free. If not, the next gap between the NICs of the network
    is tried, and after some of those everything the ledger does not list, so that only a full network is called full.
    """

    def __init__(self, node: NodeContext, networks: L3Repository, nics: NicRepository) -> None:
        self._networks, self._nics = networks, nics
        self._rng, self._uuids = node.rng, node.uuids
        self.floors = Floors(node.clock)

    def take(self, tx: Tx, network: OpenNetwork, ip: str, vm_uuid: str) -> int:
        """A certain address, as a number. Raises network.address-foreign, network.address-taken."""
        number = number_of(ip)
        if number not in network.addresses:
            raise ADDRESS_FOREIGN.error(f"{ip} is in no range of the network", resource=network.uuid, ip=ip)
        if not self._try(tx, network, number, vm_uuid):
            raise ADDRESS_TAKEN.error(f"{ip} is in use", resource=network.uuid, ip=ip)
        return number

    def draw(self, tx: Tx, network: OpenNetwork, vm_uuid: str) -> int:
        """A free address by the network's strategy, as a number. Raises network.no-address."""
        total = len(network.addresses)
        if not total:
            raise NO_ADDRESS.error(
                "the network has no range: add one with POST /v1/ip-ranges", resource=network.uuid
            )
        number = self._first_free(tx, network, self._start(tx, network, total), vm_uuid)
        if number is None:
            raise NO_ADDRESS.error(
                f"all {total} addresses of the network are taken", resource=network.uuid, total=total
            )
        if network.strategy is IpStrategy.ASCENDING:
            self._networks.set_last_number(tx, network.uuid, number)
        if network.strategy is IpStrategy.FIRST:
            self.floors.set(network.uuid, number + 1)
        return number

    def free(self, tx: Tx, network_uuid: str, ip: str, vm_uuid: str) -> None:
        """Gives an address back, unless it is quarantined."""
        ledger.free_unit(tx, network_uuid, ip, holder=vm_uuid)
        tx.after_commit(lambda: self.floors.forget(network_uuid))

    def _start(self, tx: Tx, network: OpenNetwork, total: int) -> int:
        """The address to try first."""
        if network.strategy is IpStrategy.RANDOM:
            return network.addresses.nth(self._rng.bits(48) % total)
        if network.strategy is IpStrategy.ASCENDING:
            last = self._networks.last_number(tx, network.uuid)
            return network.addresses.at_or_after(0 if last is None else last + 1)
        return network.addresses.at_or_after(self.floors.get(network.uuid))

    def _first_free(self, tx: Tx, network: OpenNetwork, start: int, vm_uuid: str) -> int | None:
        number = start
        for _ in range(LEAPS):
            if self._try(tx, network, number, vm_uuid):
                return number
            number = network.addresses.at_or_after(self._nics.next_gap(tx, network.uuid, number))
        taken = ledger.units(tx, network.uuid)
        for number in network.addresses.round_from(start):
            if text_of(number) not in taken and self._try(tx, network, number, vm_uuid):
                return number
        return None

    def _try(self, tx: Tx, network: OpenNetwork, number: int, vm_uuid: str) -> bool:
        uuid = self._uuids.draw()
        return ledger.take_unit(tx, network.uuid, KIND, text_of(number), holder=vm_uuid, uuid=uuid)
