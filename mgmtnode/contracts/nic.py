"""Network interfaces: what the network service does for VMs, in the VM's own transaction."""

from __future__ import annotations

from typing import Annotated

from mgmtnode.bus.message import InTx, Nothing
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import Data, Inventory, Ref, Resource, Uuid


class NicBrief(Data):
    """A NIC as its VM's inventory shows it."""

    uuid: Uuid
    mac: str
    ip: str | None
    l3_network_uuid: str | None


class Nic(Inventory):
    vm_uuid: Annotated[Uuid, Ref("vm")]
    l3_network_uuid: Annotated[Uuid, Ref("l3_network")]
    ip_range_uuid: Annotated[Uuid, Ref("ip_range")] | None
    mac: str
    ip: str | None
    device_index: int


NIC = Resource("nic", "nics", Nic, owned=True)


class CreateNic(InTx[Nic], frozen=True, kw_only=True):
    """A NIC of ``vm_uuid`` with an address of the network: ``ip`` if given, otherwise by the network's strategy.

    ``mac`` is generated unless given. Raises network.address-taken, network.address-foreign, network.no-address,
    network.not-usable when the network is disabled, network.mac-taken, network.bad-mac.
    """

    nic_uuid: Uuid
    vm_uuid: Uuid
    account_uuid: Uuid
    l3_network_uuid: Uuid
    device_index: int
    ip: str | None = None
    mac: str | None = None


class RemoveNic(InTx[Nothing], frozen=True, kw_only=True):
    """Deletes one NIC, or all of a VM, and frees the addresses. Nothing there is success."""

    vm_uuid: Uuid
    nic_uuid: Uuid | None = None


class NicList(Data):
    nics: list[Nic]


class ListNics(InTx[NicList], frozen=True, kw_only=True):
    """The NICs of a VM, by device index."""

    vm_uuid: Uuid


NO_ADDRESS = ErrorCode("network.no-address", Category.NO_CAPACITY, "the network has no free address")
ADDRESS_TAKEN = ErrorCode("network.address-taken", Category.EXISTS, "the address is in use")
ADDRESS_FOREIGN = ErrorCode(
    "network.address-foreign", Category.INVALID, "the address is not in a range of the network"
)
NETWORK_NOT_USABLE = ErrorCode("network.not-usable", Category.STATE, "the network cannot be used there")
BAD_MAC = ErrorCode("network.bad-mac", Category.INVALID, "the MAC address is not one of a single interface")
MAC_TAKEN = ErrorCode("network.mac-taken", Category.EXISTS, "another NIC has the MAC address")
