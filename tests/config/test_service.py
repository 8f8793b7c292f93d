"""The config service over a real database and query engine, without bus and jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.contracts import config as contract
from mgmtnode.contracts.config import (
    GLOBAL_CONFIG,
    GetResourceConfigs,
    GlobalConfigChanged,
    ResetGlobalConfig,
    ResetResourceConfig,
    ResourceConfigChanged,
    SetResourceConfig,
    UpdateGlobalConfig,
)
from mgmtnode.db.session import SqlDatabase
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.errors import ApiError
from mgmtnode.handlers import bind
from mgmtnode.jobs.job import SYSTEM
from mgmtnode.loader import check
from mgmtnode.query.engine import Query
from services.config.manifest import manifest
from services.config.service import ConfigService

RESERVED = GlobalConfig("box.reserved", 10, "Kept free", low=0, high=100, overridable=("rack", "room"))


@pytest.fixture
def service(db: SqlDatabase) -> ConfigService:
    configs = GlobalConfigs()
    configs.declare("box", [RESERVED])
    configs.declare("config", manifest.config)
    asyncio.run(configs.load(db))
    query = Query([GLOBAL_CONFIG], CORE_TABLES)
    return ConfigService(cast("Any", SimpleNamespace(config=configs, query=query, db=db)))


@pytest.fixture
def rack(db: SqlDatabase, foreign: Any) -> str:
    return cast("str", db.run(lambda tx: foreign.make(tx, "rack", room_uuid=foreign.make(tx, "room"))))


def write(db: SqlDatabase, work: Callable[..., Any]) -> Any:
    async def go() -> Any:
        return await db.write(work)

    return asyncio.run(go())


def events(db: SqlDatabase) -> list[Any]:
    return cast("Any", db.hooks).events  # type: ignore[no-any-return]


def test_the_loader_accepts_the_service_as_it_is(service: ConfigService) -> None:
    check([manifest])
    handlers = bind([(manifest, service)])
    assert sorted(handlers.jobs) == [
        "global-config.reset", "global-config.update", "resource-config.reset", "resource-config.set",
    ]  # fmt: skip


def test_an_update_answers_with_the_inventory_and_tells_everybody(
    db: SqlDatabase, service: ConfigService
) -> None:
    msg = UpdateGlobalConfig(uuid=RESERVED.uuid, value=20)
    db.run(lambda tx: service.check_update(tx, msg, SYSTEM))
    shown = write(db, lambda tx: service.update(tx, msg))
    assert (shown.name, shown.value, shown.changed, shown.default) == ("box.reserved", "20", True, "10")
    assert service.node.config.get(RESERVED) == 20
    assert events(db) == [GlobalConfigChanged(resource_uuid=RESERVED.uuid, global_config=shown)]
    back = write(db, lambda tx: service.reset(tx, ResetGlobalConfig(uuid=RESERVED.uuid)))
    assert (back.value, back.changed, service.node.config.get(RESERVED)) == ("10", False, 10)


def test_what_does_not_fit_is_refused_before_it_is_a_job(
    db: SqlDatabase, service: ConfigService, rack: str
) -> None:
    bad: list[tuple[Any, Any, str]] = [
        (service.check_update, UpdateGlobalConfig(uuid=RESERVED.uuid, value="x"), "config.invalid-value"),
        (service.check_update, UpdateGlobalConfig(uuid=rack, value=1), "config.unknown"),
        (service.check_override, SetResourceConfig(resource_uuid=rack, name="no", value=1), "config.unknown"),
        (
            service.check_override,
            SetResourceConfig(resource_uuid=rack, name="config.refresh_interval", value=9),
            "config.not-overridable",
        ),
        (service.check_reset_override, ResetResourceConfig(resource_uuid=rack, name="no"), "config.unknown"),
    ]
    for check_, msg, code in bad:
        with pytest.raises(ApiError) as raised:
            db.run(lambda tx, check_=check_, msg=msg: check_(tx, msg, SYSTEM))
        assert raised.value.code == code


def test_an_override_is_shown_with_its_source_until_it_is_taken_away(
    db: SqlDatabase, service: ConfigService, rack: str
) -> None:
    def sources() -> list[tuple[str, str, str | None]]:
        reply = asyncio.run(service.of_resource(GetResourceConfigs(resource_uuid=rack), SYSTEM))
        return [(c.value, c.source, c.source_uuid) for c in reply.configs]

    before = sources()
    msg = SetResourceConfig(resource_uuid=rack, name="box.reserved", value=30)
    done = write(db, lambda tx: service.override(tx, msg))
    after = sources()
    reset = ResetResourceConfig(resource_uuid=rack, name="box.reserved")
    left = [write(db, lambda tx: service.reset_override(tx, reset)) for _ in range(2)]
    assert (before, after, sources()) == (
        [("10", "global", None)],
        [("30", "rack", rack)],
        [("10", "global", None)],
    )
    assert (done.value, [value.source for value in left]) == ("30", ["global", "global"])
    assert [(type(e), e.resource_uuid, e.value) for e in events(db)] == [
        (ResourceConfigChanged, rack, "30"),
        (ResourceConfigChanged, rack, None),
    ]


def test_a_node_that_hears_of_a_change_reads_it(db: SqlDatabase, service: ConfigService) -> None:
    elsewhere = GlobalConfigs()
    elsewhere.declare("box", [RESERVED])
    shown = write(db, lambda tx: service.update(tx, UpdateGlobalConfig(uuid=RESERVED.uuid, value=20)))
    other = ConfigService(cast("Any", SimpleNamespace(config=elsewhere, db=db)))
    asyncio.run(other.global_changed(GlobalConfigChanged(resource_uuid=RESERVED.uuid, global_config=shown)))
    assert elsewhere.get(RESERVED) == 20


def test_the_contract_lets_only_the_operator_change_configs() -> None:
    messages = [v for v in vars(contract).values() if isinstance(getattr(v, "api", None), contract.Api)]
    assert len(messages) == 5
    assert all(message.api.admin for message in messages)
