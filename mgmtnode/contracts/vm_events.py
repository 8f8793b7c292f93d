"""What happens to VMs, and why something could not: the events and error codes of the vm service."""

from __future__ import annotations

from typing import ClassVar

from mgmtnode.bus.message import Event
from mgmtnode.errors import Category, ErrorCode


class VmCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "vm.created"
    vm_name: str
    cpu: int
    memory: int


class VmStateChanged(Event, frozen=True, kw_only=True):
    """``cause`` is ``api`` for what was asked for, ``sync`` for what a host reported, ``cascade`` for a deletion."""

    name: ClassVar[str] = "vm.state-changed"
    before: str
    after: str
    host_uuid: str | None = None
    cause: str = "api"


class VmChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "vm.changed"
    fields: list[str] = []


class VmMigrated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "vm.migrated"
    from_host_uuid: str
    to_host_uuid: str


class VmExpunged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "vm.expunged"


class StrangerVmFound(Event, frozen=True, kw_only=True):
    """A host runs something that it should not: no VM has that uuid, or the VM is destroyed, or is somewhere else.
    ``resource_uuid`` is the host."""

    name: ClassVar[str] = "host.stranger-vm"
    vm_uuid: str
    power: str


VM_BAD_STATE = ErrorCode("vm.bad-state", Category.STATE, "the VM's state does not allow this")
VM_NO_SIZE = ErrorCode("vm.no-size", Category.INVALID, "give an instance offering, or cpu and memory")
VM_NO_SUCH_NIC = ErrorCode("vm.no-such-nic", Category.NOT_FOUND, "the VM has no such NIC")
VM_WHEREABOUTS_UNKNOWN = ErrorCode(
    "vm.whereabouts-unknown", Category.STATE, "the VM may be on either of two hosts"
)
VM_BAD_STATIC_IP = ErrorCode(
    "vm.bad-static-ip", Category.INVALID, "a staticIp tag names a network the VM does not get, or gets twice"
)
VM_TOO_MANY_NICS = ErrorCode("vm.too-many-nics", Category.INVALID, "a VM has at most 8 NICs")
VM_SAME_HOST = ErrorCode("vm.same-host", Category.INVALID, "the VM is on that host already")
VM_OFFERING_DISABLED = ErrorCode("vm.offering-disabled", Category.STATE, "the instance offering is disabled")
VM_MIGRATION_FAILED = ErrorCode(
    "vm.migration-failed", Category.STATE, "VMs could neither be moved nor stopped"
)
