"""What a deletion upstream does to VMs: a host that goes stops them, a zone that goes takes them along."""

from __future__ import annotations

from typing import Any

from mgmtnode.bus.message import ApiJob
from mgmtnode.cascade.graph import Doomed, OnDelete
from mgmtnode.contracts.vm import DestroyVm, StopVm


def _host_gone(doomed: Doomed) -> ApiJob[Any]:
    if doomed.root == "zone":
        return _zone_gone(doomed)
    return StopVm(uuid=doomed.uuid, force=doomed.force, settle=doomed.force)


def _zone_gone(doomed: Doomed) -> ApiJob[Any]:
    return DestroyVm(uuid=doomed.uuid, force=True, settle=doomed.force)


BEFORE_NETWORKS = 0

CASCADE = (
    OnDelete(child="vm", column="host_uuid", parent="host", act=_host_gone),
    OnDelete(child="vm", column="zone_uuid", parent="zone", act=_zone_gone, wave=BEFORE_NETWORKS),
    OnDelete(child="vm", column="last_host_uuid", parent="host", nullify=True),
    OnDelete(child="vm", column="cluster_uuid", parent="cluster", nullify=True),
    OnDelete(child="vm", column="instance_offering_uuid", parent="instance_offering", nullify=True),
)
