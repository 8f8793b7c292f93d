"""What hosts report of VMs, as jobs: so that an observation waits its turn behind what is being done to the VM."""

from __future__ import annotations

from typing import Annotated, ClassVar

from mgmtnode.bus.message import Api, ApiJob, Nothing
from mgmtnode.schema import Ref, Uuid


class ObserveVm(ApiJob[Nothing], frozen=True, kw_only=True):
    """A host was asked, when the VM was known to be in this ``revision``, and said ``power`` of it; None: it is not
    there. ``Unknown``: the host is out of reach. Without effect if the VM changed since. A stopped or unknown VM that
    runs there is taken over."""

    api: ClassVar[Api] = Api("vm.observe", "", "", "Take over what a host reported", admin=True)
    resource_type: ClassVar[str] = "vm"
    internal: ClassVar[bool] = True

    uuid: Annotated[Uuid, Ref("vm")]
    host_uuid: Uuid
    revision: int
    power: str | None


class MoveOff(ApiJob[Nothing], frozen=True, kw_only=True):
    """Migrates the VM away from ``host_uuid``, which enters maintenance; one that is not there is left alone."""

    api: ClassVar[Api] = Api("vm.move-off", "", "", "Move a VM off a host", admin=True)
    resource_type: ClassVar[str] = "vm"
    internal: ClassVar[bool] = True

    uuid: Annotated[Uuid, Ref("vm")]
    host_uuid: Uuid


class DestroyStranger(ApiJob[Nothing], frozen=True, kw_only=True):
    """Has a host destroy what runs there under the uuid of no VM, or of a destroyed one."""

    api: ClassVar[Api] = Api("vm.destroy-stranger", "", "", "Destroy a VM that should not be", admin=True)
    target: ClassVar[str] = "vm_uuid"
    internal: ClassVar[bool] = True

    vm_uuid: Uuid
    host_uuid: Annotated[Uuid, Ref("host")]
