"""What a deletion upstream does to networks. Attachments to clusters go with the cluster's row, by foreign key."""

from __future__ import annotations

from mgmtnode.cascade.graph import Doomed, OnDelete
from mgmtnode.contracts.l2_network import DeleteL2Network
from mgmtnode.contracts.network import NETWORK_IN_USE, DeleteL3Network
from mgmtnode.db.session import Tx
from services.network.repository.nics import used


def delete_l2(doomed: Doomed) -> DeleteL2Network:
    return DeleteL2Network(uuid=doomed.uuid, force=_insists(doomed))


def delete_l3(doomed: Doomed) -> DeleteL3Network:
    return DeleteL3Network(uuid=doomed.uuid, force=_insists(doomed))


def refuse(tx: Tx, doomed: Doomed) -> None:
    if not _insists(doomed) and used(tx, doomed.uuid):
        raise NETWORK_IN_USE.error("NICs of VMs use an L3 network on it", resource=doomed.uuid)


def _insists(doomed: Doomed) -> bool:
    """Whether NICs are no reason to stop: what else is in a zone goes with it, the VMs too, if nobody objects."""
    return doomed.force or doomed.root == "zone"


AFTER_VMS = 2  # whose addresses they are

CASCADE = (
    OnDelete(child="l2_network", column="zone_uuid", parent="zone", act=delete_l2, wave=AFTER_VMS),
    OnDelete(child="l3_network", column="zone_uuid", parent="zone", act=delete_l3, wave=AFTER_VMS),
    OnDelete(child="l3_network", column="l2_network_uuid", parent="l2_network", act=delete_l3, refuse=refuse),
)
