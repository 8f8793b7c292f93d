"""State sync: taking over what a host reports of a VM, where nothing is being done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.contracts.allocator import ReserveOnHost, ReturnHost
from mgmtnode.contracts.host import CLEANUP_DEBT, HOST, Host
from mgmtnode.contracts.hypervisor import VmPower
from mgmtnode.contracts.vm import VmState
from mgmtnode.contracts.vm_sync import ObserveVm
from mgmtnode.db.session import Tx
from mgmtnode.jobs import ledger
from services.vm.repository import VmRow
from services.vm.state import TRANSITIONS

if TYPE_CHECKING:
    from services.vm.service import VmService

STATE_OF = {
    VmPower.RUNNING: VmState.RUNNING,
    VmPower.PAUSED: VmState.PAUSED,
    VmPower.CRASHED: VmState.CRASHED,
    VmPower.STOPPED: VmState.STOPPED,
    "Unknown": VmState.UNKNOWN,
    None: VmState.STOPPED,
}
ALIVE = (VmState.RUNNING, VmState.PAUSED)
HOMELESS = (VmState.STOPPED, VmState.UNKNOWN)


def observe(service: VmService, tx: Tx, msg: ObserveVm) -> Nothing:
    """Takes over an observation, unless the VM has changed since it was made. Runs in turn with the jobs of the VM, so
    a transitional state is what a job left that was given up."""
    after = STATE_OF.get(msg.power)
    if after is None or service.vms.placed(tx, [msg.uuid])[msg.uuid].revision != msg.revision:
        return NOTHING
    row = service.vms.get(tx, msg.uuid)
    if row.host_uuid == msg.host_uuid:
        _at_home(service, tx, row, after)
    elif after in ALIVE and row.state in HOMELESS and may_live(service, tx, row, msg.host_uuid):
        _found(service, tx, row, service.node.query.get(tx, HOST, msg.host_uuid), after)
    return NOTHING


def may_live(service: VmService, tx: Tx, row: VmRow, host_uuid: str) -> bool:
    """Whether a VM that runs on a host, unrecorded, is to stay there, and not what a failed undo left."""
    if row.state == VmState.UNKNOWN:
        return True
    debt = (f"host_uuid={host_uuid}", f"resource_uuid={row.uuid}")
    return not service.node.query.find(tx, CLEANUP_DEBT, *debt)


def _at_home(service: VmService, tx: Tx, row: VmRow, after: VmState) -> None:
    if after == row.state or after not in TRANSITIONS[row.state]:
        return
    if after != VmState.STOPPED:
        service.vms.move(tx, row, after, cause="sync")
        return
    elsewhere = _held_hosts(tx, row.uuid) - {row.host_uuid}
    if row.state == VmState.UNKNOWN and elsewhere:
        # A migration that nobody saw end: then it is there, if anywhere. It will not be here again.
        tx.call(ReturnHost(vm_uuid=row.uuid, host_uuid=row.host_uuid))
        service.vms.move(tx, row, row.state, cause="sync", host_uuid=min(elsewhere))
        return
    service.vms.move(tx, row, after, cause="sync", host_uuid=None, last_host_uuid=row.host_uuid)
    tx.call(ReturnHost(vm_uuid=row.uuid))


def _found(service: VmService, tx: Tx, row: VmRow, host: Host, after: VmState) -> None:
    """The VM runs on a host where nobody put it, or where it was moved to by a migration nobody saw end."""
    if host.uuid not in _held_hosts(tx, row.uuid):
        cpu, memory = row.cpu, row.memory
        tx.call(ReserveOnHost(vm_uuid=row.uuid, host_uuid=host.uuid, cpu=cpu, memory=memory, force=True))
    if row.host_uuid:
        tx.call(ReturnHost(vm_uuid=row.uuid, host_uuid=row.host_uuid))
    service.vms.move(
        tx,
        row,
        after,
        cause="sync",
        host_uuid=host.uuid,
        last_host_uuid=row.host_uuid or row.last_host_uuid,
        cluster_uuid=host.cluster_uuid,
        zone_uuid=host.zone_uuid,
        hypervisor=host.hypervisor,
    )


def _held_hosts(tx: Tx, vm_uuid: str) -> set[str]:
    """Where it may be: of which it has given back nothing."""
    return {pool for pool, kind in ledger.held(tx, vm_uuid, returned=False) if kind == "memory"}
