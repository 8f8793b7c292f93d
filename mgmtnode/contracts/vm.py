"""Virtual machines. A transitional state always has a live job; nothing is ever left in one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import ActionJob, Api, ApiCall, CreateJob, DeleteJob, UpdateJob
from mgmtnode.schema import (
    UNSET,
    CpuCount,
    Data,
    Description,
    Embed,
    Inventory,
    IpAddress,
    MacAddress,
    Memory,
    Name,
    Ref,
    Resource,
    UnsetType,
    Uuid,
)


class VmState(StrEnum):
    CREATED = "Created"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    REBOOTING = "Rebooting"
    PAUSING = "Pausing"
    PAUSED = "Paused"
    RESUMING = "Resuming"
    MIGRATING = "Migrating"
    DESTROYING = "Destroying"
    DESTROYED = "Destroyed"
    EXPUNGING = "Expunging"
    CRASHED = "Crashed"
    UNKNOWN = "Unknown"


class VmNic(Data):
    """A network interface as the VM's inventory shows it."""

    uuid: Uuid
    mac: str
    ip: str | None
    l3_network_uuid: str


class Vm(Inventory):
    """``host_uuid`` is where it runs, None when it does not; ``last_host_uuid`` where it ran last."""

    state: VmState
    cpu: int
    memory: int
    hypervisor: str
    zone_uuid: Annotated[Uuid, Ref("zone")] | None
    cluster_uuid: Annotated[Uuid, Ref("cluster")] | None
    host_uuid: Annotated[Uuid, Ref("host")] | None
    last_host_uuid: Annotated[Uuid, Ref("host")] | None
    instance_offering_uuid: Annotated[Uuid, Ref("instance_offering")] | None
    destroyed_at: datetime | None = None
    nics: Annotated[list[VmNic], Embed("nics")] = []


VM = Resource("vm", "vms", Vm, owned=True)

Networks = Annotated[list[Annotated[Uuid, Ref("l3_network")]], Meta(max_length=8)]


class CreateVm(CreateJob[Vm], frozen=True, kw_only=True):
    """Makes a VM and, unless ``start`` is false, runs it. Size: an instance offering, or cpu and memory."""

    api: ClassVar[Api] = Api("vm.create", "POST", "/vms", "Create a VM")
    creates: ClassVar[str] = "vm"

    name: Name
    description: Description = ""
    instance_offering_uuid: Annotated[Uuid, Ref("instance_offering")] | None = None
    cpu: CpuCount | None = None
    memory: Memory | None = None
    l3_network_uuids: Networks = []
    zone_uuid: Annotated[Uuid, Ref("zone")] | None = None
    cluster_uuid: Annotated[Uuid, Ref("cluster")] | None = None
    host_uuid: Annotated[Uuid, Ref("host")] | None = None
    start: bool = True


class UpdateVm(UpdateJob[Vm], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("vm.update", "PATCH", "/vms/{uuid}", "Change name or description")
    resource_type: ClassVar[str] = "vm"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class DestroyVm(DeleteJob, frozen=True, kw_only=True):
    """Stops the VM and marks it destroyed; it can be recovered until it is expunged (``vm.deletion_policy``).

    ``force`` deletes it for good at once. ``settle``, for operators, as for StopVm: even if its host does not answer.
    """

    api: ClassVar[Api] = Api("vm.delete", "DELETE", "/vms/{uuid}", "Destroy a VM")
    resource_type: ClassVar[str] = "vm"

    settle: bool = False


class StartVm(ActionJob[Vm], frozen=True, kw_only=True):
    """Running already is success."""

    api: ClassVar[Api] = Api("vm.start", "POST", "/vms/{uuid}/actions/start", "Start a stopped VM")
    resource_type: ClassVar[str] = "vm"

    host_uuid: Annotated[Uuid, Ref("host")] | None = None


class StopVm(ActionJob[Vm], frozen=True, kw_only=True):
    """Stopped already is success. ``force`` pulls the plug. ``settle``, for operators whose host is gone for good,
    counts the VM as stopped even if its host does not answer: it must not be able to run there any more."""

    api: ClassVar[Api] = Api("vm.stop", "POST", "/vms/{uuid}/actions/stop", "Stop a VM")
    resource_type: ClassVar[str] = "vm"

    force: bool = False
    settle: bool = False


class RebootVm(ActionJob[Vm], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("vm.reboot", "POST", "/vms/{uuid}/actions/reboot", "Reboot a running VM")
    resource_type: ClassVar[str] = "vm"


class PauseVm(ActionJob[Vm], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("vm.pause", "POST", "/vms/{uuid}/actions/pause", "Pause a running VM")
    resource_type: ClassVar[str] = "vm"


class ResumeVm(ActionJob[Vm], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("vm.resume", "POST", "/vms/{uuid}/actions/resume", "Let a paused VM go on")
    resource_type: ClassVar[str] = "vm"


class MigrateVm(ActionJob[Vm], frozen=True, kw_only=True):
    """Moves a running or paused VM to ``host_uuid``, or to the host the allocator picks in its cluster."""

    api: ClassVar[Api] = Api("vm.migrate", "POST", "/vms/{uuid}/actions/migrate", "Move a VM to another host")
    resource_type: ClassVar[str] = "vm"

    host_uuid: Annotated[Uuid, Ref("host")] | None = None


class RecoverVm(ActionJob[Vm], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "vm.recover", "POST", "/vms/{uuid}/actions/recover", "Bring a destroyed VM back, stopped"
    )
    resource_type: ClassVar[str] = "vm"


class ExpungeVm(ActionJob[Vm], frozen=True, kw_only=True):
    """Deletes a destroyed VM for good. Answers with the VM as it was."""

    api: ClassVar[Api] = Api(
        "vm.expunge", "POST", "/vms/{uuid}/actions/expunge", "Delete a destroyed VM for good"
    )
    resource_type: ClassVar[str] = "vm"


class ChangeVmOffering(ActionJob[Vm], frozen=True, kw_only=True):
    """A new size: an offering, or cpu and memory. A running VM keeps running if its host has the room."""

    api: ClassVar[Api] = Api("vm.resize", "POST", "/vms/{uuid}/actions/change-offering", "Change a VM's size")
    resource_type: ClassVar[str] = "vm"

    instance_offering_uuid: Annotated[Uuid, Ref("instance_offering")] | None = None
    cpu: CpuCount | None = None
    memory: Memory | None = None


class AttachNic(ActionJob[Vm], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "vm.attach-nic", "POST", "/vms/{uuid}/actions/attach-nic", "Give a VM another NIC"
    )
    resource_type: ClassVar[str] = "vm"

    l3_network_uuid: Annotated[Uuid, Ref("l3_network")]
    ip: IpAddress | None = None
    mac: MacAddress | None = None


class DetachNic(ActionJob[Vm], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "vm.detach-nic", "POST", "/vms/{uuid}/actions/detach-nic", "Take a NIC from a VM"
    )
    resource_type: ClassVar[str] = "vm"

    nic_uuid: Annotated[Uuid, Ref("nic")]


class CandidateHost(Data):
    uuid: Uuid
    name: str


class CandidateHosts(Data):
    items: list[CandidateHost]


class GetMigrationCandidates(ApiCall[CandidateHosts], frozen=True, kw_only=True):
    """The hosts a VM could be moved to now, the best first."""

    api: ClassVar[Api] = Api(
        "vm.migration-candidates",
        "GET",
        "/vms/{uuid}/migration-candidates",
        "Hosts a VM could move to",
        admin=True,
    )

    uuid: Annotated[Uuid, Ref("vm")]
