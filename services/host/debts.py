"""What failed undos left on hosts: read, settled, and asked for again and again until it is gone."""

from __future__ import annotations

from mgmtnode.contracts.host import CLEANUP_DEBT, CleanupDebt
from mgmtnode.contracts.vm import VM
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs import ledger
from mgmtnode.service import NodeContext


class HostDebts:
    def __init__(self, node: NodeContext) -> None:
        self._node = node

    def of_host(self, tx: Tx, host_uuid: str) -> list[CleanupDebt]:
        return self._node.query.find(tx, CLEANUP_DEBT, f"host_uuid={host_uuid}")

    def lives_there(self, tx: Tx, host_uuid: str, resource_uuid: str) -> bool:
        """Whether the database has the VM on that host."""
        if "vm" not in self._node.manifests:
            return False
        return bool(self._node.query.find(tx, VM, f"uuid={resource_uuid}", f"host_uuid={host_uuid}"))

    def settle(self, tx: Tx, host_uuid: str, resource_uuid: str, *, keep: bool = False) -> None:
        """The host owes nothing for the resource any more. ``keep``: what it holds there stays its own.

        With its last debt, the rest that was kept back is free, or the resource's own again if it lives.
        """
        if not keep:
            ledger.settle(tx, resource_uuid, pool_uuid=host_uuid)
        if ledger.drop_debt(tx, host_uuid, resource_uuid):
            return
        if resource.type_of(tx, resource_uuid) is None:
            ledger.settle(tx, resource_uuid)
        else:
            ledger.restore(tx, resource_uuid)
