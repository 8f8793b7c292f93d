"""What hosts report of VMs, as jobs: so that an observation waits its turn behind what is being done to the VM."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from mgmtnode.bus.message import Api, ApiJob, Nothing
from mgmtnode.schema import Ref, Uuid


class ObserveVm(ApiJob[Nothing], frozen=True, kw_only=True):
    """A host was asked at ``asked_at`` and said ``power`` of the VM; None: it is not there. ``Unknown``: the host is
    out of reach. Without effect if the VM changed since, or is on another host by now."""

    api: ClassVar[Api] = Api("vm.observe", "", "", "Take over what a host reported", admin=True)
    resource_type: ClassVar[str] = "vm"
    internal: ClassVar[bool] = True

    uuid: Annotated[Uuid, Ref("vm")]
    host_uuid: Uuid
    asked_at: datetime
    power: str | None
