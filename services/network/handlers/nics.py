"""NICs: made and removed in the transactions of the VM service."""

from __future__ import annotations

import msgspec

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.network import NetworkState
from mgmtnode.contracts.nic import (
    MAC_TAKEN,
    NETWORK_NOT_USABLE,
    CreateNic,
    ListNics,
    Nic,
    NicList,
    RemoveNic,
)
from mgmtnode.db.session import Tx
from mgmtnode.service import handler
from services.network import macs
from services.network.addresses import text_of
from services.network.config import MAC_PREFIX
from services.network.handlers.parts import Parts

MAC_DRAWS = 16


class NicHandlers(Parts):
    @handler()
    def create_nic(self, tx: Tx, msg: CreateNic) -> Nic:
        mac = macs.checked(msg.mac) if msg.mac else ""
        network = self.nics.open(tx, msg.l3_network_uuid)
        if network.state is NetworkState.DISABLED:
            raise NETWORK_NOT_USABLE.error("the network is disabled", resource=network.uuid)
        if msg.ip:
            number = self.allocator.take(tx, network, msg.ip, msg.vm_uuid)
        else:
            number = self.allocator.draw(tx, network, msg.vm_uuid)
        made = self._described(tx, msg, text_of(number), network.range_of(number))
        self.nics.insert(tx, made, msg.account_uuid)
        return self._plugged(tx, made, mac)

    @handler()
    def remove_nic(self, tx: Tx, msg: RemoveNic) -> Nothing:
        self.free(tx, self.nics.remove(tx, msg.vm_uuid, msg.nic_uuid))
        return NOTHING

    @handler()
    def list_nics(self, tx: Tx, msg: ListNics) -> NicList:
        return NicList(nics=self.nics.of_vm(tx, msg.vm_uuid))

    def _described(self, tx: Tx, msg: CreateNic, ip: str, ip_range_uuid: str | None) -> Nic:
        """The NIC as it will read, without a MAC address yet."""
        return Nic(
            uuid=msg.nic_uuid,
            name=f"nic{msg.device_index}",
            description="",
            created_at=tx.now,
            updated_at=tx.now,
            vm_uuid=msg.vm_uuid,
            l3_network_uuid=msg.l3_network_uuid,
            ip_range_uuid=ip_range_uuid,
            mac="",
            ip=ip,
            device_index=msg.device_index,
        )

    def _plugged(self, tx: Tx, made: Nic, mac: str) -> Nic:
        """The NIC with its own row, with ``mac`` or a new one. Raises network.mac-taken."""
        prefix = self.node.config.get(MAC_PREFIX)
        for _ in range(1 if mac else MAC_DRAWS):
            ready = msgspec.structs.replace(made, mac=mac or macs.drawn(self.node.rng, prefix))
            if self.nics.plug(tx, ready):
                return ready
        raise MAC_TAKEN.error(
            f"another NIC has {mac}" if mac else f"no free MAC address was found; change {MAC_PREFIX.name}",
            resource=made.vm_uuid,
        )
