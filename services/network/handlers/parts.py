"""What all handlers of the network service work with."""

from __future__ import annotations

from mgmtnode.contracts.network import NETWORK_IN_USE
from mgmtnode.db.session import Tx
from mgmtnode.service import NodeContext, Service
from services.network.allocation import IpAllocator
from services.network.repository.l2 import L2Repository
from services.network.repository.l3 import L3Repository
from services.network.repository.nics import Gone, NicRepository, used
from services.network.repository.ranges import RangeRepository


class Parts(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.l2_networks = L2Repository(node.query)
        self.l3_networks = L3Repository(node.query)
        self.ranges = RangeRepository(node.query)
        self.nics = NicRepository(node.query)
        self.allocator = IpAllocator(node, self.l3_networks, self.nics)

    def refuse_if_used(self, tx: Tx, uuid: str) -> None:
        """Raises network.in-use while NICs are on the network, or have addresses of the range, ``uuid``."""
        if used(tx, uuid):
            raise NETWORK_IN_USE.error("NICs of VMs use it: detach them, or delete with force", resource=uuid)

    def free(self, tx: Tx, gone: list[Gone]) -> None:
        """Gives back the addresses of NICs that were removed."""
        for nic in gone:
            if nic.ip is not None:
                self.allocator.free(tx, nic.l3_network_uuid, nic.ip, nic.vm_uuid)
