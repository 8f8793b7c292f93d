"""Zones: create, change, enable, disable, delete."""

from __future__ import annotations

from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.contracts.allocator import PlaceChanged
from mgmtnode.contracts.zone import (
    ZONE,
    CreateZone,
    DeleteZone,
    DisableZone,
    EnableZone,
    GetZone,
    UpdateZone,
    Zone,
    ZoneChanged,
    ZoneCreated,
    ZoneState,
)
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import NodeContext, Service, handler, job
from services.zone.flows import DELETE_ZONE
from services.zone.repository import ZoneRepository


class ZoneService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.zones = ZoneRepository(node.query)

    @job()
    def create(self, tx: Tx, msg: CreateZone) -> Zone:
        zone = self.zones.insert(tx, tx.job.resource_uuid, msg.name, msg.description, tx.job.account_uuid)
        tx.record(ZoneCreated(resource_uuid=zone.uuid, zone=zone))
        return zone

    @job()
    def update(self, tx: Tx, msg: UpdateZone) -> Zone:
        resource.change(tx, ZONE, msg.uuid, **changes(msg, "uuid"))
        return self._changed(tx, self.zones.get(tx, msg.uuid))

    @job()
    def enable(self, tx: Tx, msg: EnableZone) -> Zone:
        return self._set_state(tx, msg.uuid, ZoneState.ENABLED)

    @job()
    def disable(self, tx: Tx, msg: DisableZone) -> Zone:
        return self._set_state(tx, msg.uuid, ZoneState.DISABLED)

    @job(DELETE_ZONE)
    def delete(self, msg: DeleteZone, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind="zone", force=msg.force)

    @handler()
    def get(self, tx: Tx, msg: GetZone) -> Zone:
        return self.zones.get(tx, msg.uuid)

    def _set_state(self, tx: Tx, uuid: str, state: ZoneState) -> Zone:
        zone = self.zones.set_state(tx, uuid, state)
        for listener in self.node.extensions.all(PlaceChanged):
            listener.place_changed(tx, uuid, state is ZoneState.ENABLED)
        return self._changed(tx, zone)

    def _changed(self, tx: Tx, zone: Zone) -> Zone:
        tx.record(ZoneChanged(resource_uuid=zone.uuid, zone=zone))
        return zone
