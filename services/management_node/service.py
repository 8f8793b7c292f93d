"""Management nodes: list, show, drain, evict. What they say comes from the cluster part of the node."""

from __future__ import annotations

from mgmtnode.cluster.survey import NodeStatus, drain, evict, survey
from mgmtnode.contracts.management_node import (
    NODE_LAST,
    NODE_NOT_THERE,
    DrainManagementNode,
    EvictManagementNode,
    GetManagementNode,
    ListManagementNodes,
    ManagementNode,
    ManagementNodes,
)
from mgmtnode.jobs.job import Caller
from mgmtnode.service import Service, handler


class ManagementNodeService(Service):
    @handler()
    async def list(self, msg: ListManagementNodes, caller: Caller) -> ManagementNodes:
        found = await self.node.db.read(survey)
        return ManagementNodes(
            items=[self._shown(status) for status in found], ring_version=self.node.slots.version
        )

    @handler()
    async def get(self, msg: GetManagementNode, caller: Caller) -> ManagementNode:
        return await self._get(msg.name)

    @handler()
    async def drain(self, msg: DrainManagementNode, caller: Caller) -> ManagementNode:
        await self._may_go(msg.name)
        await self.node.db.write(lambda tx: drain(tx, msg.name))
        return await self._told(msg.name)

    @handler()
    async def evict(self, msg: EvictManagementNode, caller: Caller) -> ManagementNode:
        await self._may_go(msg.name)
        await self.node.db.write(lambda tx: evict(tx, msg.name))
        return await self._told(msg.name)

    async def _may_go(self, name: str) -> None:
        """Refuses to take the work from a node when no other could do it."""
        found = {status.name: status for status in await self.node.db.read(survey) if status.present}
        if name not in found:
            raise NODE_NOT_THERE.error(f"there is no node {name!r} in the cluster", known=sorted(found))
        if not any(status.up for status in found.values() if status.name != name):
            raise NODE_LAST.error(f"{name} is the only node that is up; start another one first")

    async def _told(self, name: str) -> ManagementNode:
        await self.node.membership.refresh()
        self.node.membership.tell()
        return await self._get(name)

    async def _get(self, name: str) -> ManagementNode:
        for status in await self.node.db.read(survey):
            if status.name == name:
                return self._shown(status)
        raise NODE_NOT_THERE.error(f"there is no node {name!r}")

    def _shown(self, status: NodeStatus) -> ManagementNode:
        age = round(self.node.membership.lease_age(status.name), 3) if status.present else None
        return ManagementNode(
            name=status.name,
            state=status.state,
            incarnation=status.incarnation,
            address=status.address,
            version=status.version,
            started_at=status.started_at,
            lease_age=age,
            slots=status.slots,
            leaving=status.leaving,
            in_flight=status.in_flight,
            queued=status.queued,
            answering=status.name == self.node.name,
        )
