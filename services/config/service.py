"""Global configs: change, reset, override on a resource. The values themselves live in ``node.config``."""

from __future__ import annotations

from mgmtnode.config.configs import ResourceValue
from mgmtnode.contracts.config import (
    GLOBAL_CONFIG,
    GetResourceConfigs,
    GlobalConfigChanged,
    GlobalConfigInventory,
    ResetGlobalConfig,
    ResetResourceConfig,
    ResourceConfig,
    ResourceConfigChanged,
    ResourceConfigs,
    SetResourceConfig,
    UpdateGlobalConfig,
)
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller
from mgmtnode.service import Service, handler, job, subscribe, validate
from services.config.config import REFRESH_INTERVAL


class ConfigService(Service):
    async def start(self) -> None:
        config = self.node.config
        self.node.periodic.every("config.refresh", lambda: config.get(REFRESH_INTERVAL), self._refresh)

    @validate
    def check_update(self, tx: Tx, msg: UpdateGlobalConfig, caller: Caller) -> None:
        self.node.config.by_uuid(msg.uuid).parse(msg.value)

    @job()
    def update(self, tx: Tx, msg: UpdateGlobalConfig) -> GlobalConfigInventory:
        self.node.config.set(tx, self.node.config.by_uuid(msg.uuid).name, msg.value)
        return self._changed(tx, msg.uuid)

    @job()
    def reset(self, tx: Tx, msg: ResetGlobalConfig) -> GlobalConfigInventory:
        self.node.config.reset(tx, self.node.config.by_uuid(msg.uuid).name)
        return self._changed(tx, msg.uuid)

    @validate
    def check_override(self, tx: Tx, msg: SetResourceConfig, caller: Caller) -> None:
        config = self.node.config.find(msg.name)
        config.parse(msg.value)
        self.node.config.check_for(tx, config, msg.resource_uuid)

    @job()
    def override(self, tx: Tx, msg: SetResourceConfig) -> ResourceConfig:
        config = self.node.config.find(msg.name)
        text = self.node.config.set_for(tx, config, msg.resource_uuid, msg.value)
        tx.record(ResourceConfigChanged(resource_uuid=msg.resource_uuid, config=msg.name, value=text))
        return self._effective(tx, msg.resource_uuid, msg.name)

    @validate
    def check_reset_override(self, tx: Tx, msg: ResetResourceConfig, caller: Caller) -> None:
        self.node.config.check_for(tx, self.node.config.find(msg.name), msg.resource_uuid)

    @job()
    def reset_override(self, tx: Tx, msg: ResetResourceConfig) -> ResourceConfig:
        if self.node.config.reset_for(tx, self.node.config.find(msg.name), msg.resource_uuid):
            tx.record(ResourceConfigChanged(resource_uuid=msg.resource_uuid, config=msg.name, value=None))
        return self._effective(tx, msg.resource_uuid, msg.name)

    @handler()
    async def of_resource(self, msg: GetResourceConfigs, caller: Caller) -> ResourceConfigs:
        values = await self.node.db.read(lambda tx: self.node.config.effective(tx, msg.resource_uuid))
        return ResourceConfigs(resource_uuid=msg.resource_uuid, configs=[_shown(value) for value in values])

    @subscribe
    async def global_changed(self, event: GlobalConfigChanged) -> None:
        await self._refresh()

    @subscribe
    async def override_changed(self, event: ResourceConfigChanged) -> None:
        await self._refresh()

    async def _refresh(self) -> None:
        await self.node.config.refresh(self.node.db)

    def _changed(self, tx: Tx, uuid: str) -> GlobalConfigInventory:
        config: GlobalConfigInventory = self.node.query.get(tx, GLOBAL_CONFIG, uuid)
        tx.record(GlobalConfigChanged(resource_uuid=uuid, global_config=config))
        return config

    def _effective(self, tx: Tx, resource_uuid: str, name: str) -> ResourceConfig:
        values = self.node.config.effective(tx, resource_uuid)
        return next(_shown(value) for value in values if value.config.name == name)


def _shown(value: ResourceValue) -> ResourceConfig:
    return ResourceConfig(
        name=value.config.name,
        value=value.config.text(value.value),
        unit=value.config.unit,
        source=value.carrier_type or "global",
        source_uuid=value.carrier_uuid,
    )
