"""Instance offerings: create, change, enable, disable, delete."""

from __future__ import annotations

from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.contracts.allocator import STRATEGY_UNKNOWN, AllocatorStrategy
from mgmtnode.contracts.offering import (
    INSTANCE_OFFERING,
    CreateInstanceOffering,
    DeleteInstanceOffering,
    DisableInstanceOffering,
    EnableInstanceOffering,
    InstanceOffering,
    InstanceOfferingChanged,
    InstanceOfferingCreated,
    OfferingState,
    UpdateInstanceOffering,
)
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import NodeContext, Service, job, validate
from services.offering.flows import DELETE_OFFERING
from services.offering.repository import OfferingRepository


class OfferingService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.offerings = OfferingRepository(node.query)

    @validate
    def check_create(self, tx: Tx, msg: CreateInstanceOffering, caller: Caller) -> None:
        known = self.node.extensions.keys(AllocatorStrategy)
        if msg.allocator_strategy and msg.allocator_strategy not in known:
            raise STRATEGY_UNKNOWN.error(
                f"no strategy is named {msg.allocator_strategy!r}; known are: {', '.join(known) or 'none'}",
                known=known,
            )

    @job()
    def create(self, tx: Tx, msg: CreateInstanceOffering) -> InstanceOffering:
        offering = self.offerings.insert(tx, tx.job, msg)
        resource.share_with(tx, offering.uuid)  # a size is of use only to those who can name it
        tx.record(InstanceOfferingCreated(resource_uuid=offering.uuid, instance_offering=offering))
        return offering

    @job()
    def update(self, tx: Tx, msg: UpdateInstanceOffering) -> InstanceOffering:
        resource.change(tx, INSTANCE_OFFERING, msg.uuid, **changes(msg, "uuid"))
        return self._changed(tx, self.offerings.get(tx, msg.uuid))

    @job()
    def enable(self, tx: Tx, msg: EnableInstanceOffering) -> InstanceOffering:
        return self._changed(tx, self.offerings.set_state(tx, msg.uuid, OfferingState.ENABLED))

    @job()
    def disable(self, tx: Tx, msg: DisableInstanceOffering) -> InstanceOffering:
        return self._changed(tx, self.offerings.set_state(tx, msg.uuid, OfferingState.DISABLED))

    @job(DELETE_OFFERING)
    def delete(self, msg: DeleteInstanceOffering, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind="instance_offering", force=msg.force)

    def _changed(self, tx: Tx, offering: InstanceOffering) -> InstanceOffering:
        tx.record(InstanceOfferingChanged(resource_uuid=offering.uuid, instance_offering=offering))
        return offering
