"""Global configs: settings of the whole cloud that operators change while it runs, and overrides of them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import ActionJob, Api, ApiCall, ApiJob, Event, UpdateJob
from mgmtnode.config.global_config import (
    CONFIG_INVALID,
    CONFIG_NOT_OVERRIDABLE,
    CONFIG_UNKNOWN,
    RESOURCE_TYPE,
)
from mgmtnode.schema import Data, Inventory, Resource, Uuid

ERRORS = (CONFIG_INVALID, CONFIG_NOT_OVERRIDABLE, CONFIG_UNKNOWN)

ConfigName = Annotated[str, Meta(min_length=1, max_length=128)]
Scalar = Annotated[str, Meta(max_length=4096)] | int | float | bool


class GlobalConfigInventory(Inventory):
    """``value`` and ``default`` in their stored form: decimal numbers, ``true``, ``false``, plain text.
    ``type`` is integer, number, boolean or string. ``changed``: an operator set it, so a new default does
    not touch it. ``overridable``: types of resources that may carry a value of their own, nearest first."""

    category: str
    value: str
    changed: bool
    default: str
    type: str
    unit: str
    low: float | None
    high: float | None
    choices: list[str]
    overridable: list[str]


class ResourceConfig(Data, frozen=True, kw_only=True):
    """What a config is for one resource. ``source`` is the type of the resource that carries the value
    (``host``, ``zone``) and ``source_uuid`` which one; ``global`` if none does."""

    name: str
    value: str
    unit: str
    source: str
    source_uuid: str | None = None


class ResourceConfigs(Data, frozen=True, kw_only=True):
    """All configs that a resource may carry."""

    resource_uuid: Uuid
    configs: list[ResourceConfig]


GLOBAL_CONFIG = Resource(RESOURCE_TYPE, "global-configs", GlobalConfigInventory, unique_name=True)


class UpdateGlobalConfig(UpdateJob[GlobalConfigInventory], frozen=True, kw_only=True):
    """``value``: a JSON string, number or boolean that fits the config's type and bounds."""

    api: ClassVar[Api] = Api(
        "global-config.update", "PATCH", "/global-configs/{uuid}", "Change a setting of the cloud", admin=True
    )
    resource_type: ClassVar[str] = RESOURCE_TYPE

    value: Scalar


class ResetGlobalConfig(ActionJob[GlobalConfigInventory], frozen=True, kw_only=True):
    """Back to the default, also to what a later release makes it."""

    api: ClassVar[Api] = Api(
        "global-config.reset",
        "POST",
        "/global-configs/{uuid}/actions/reset",
        "Go back to the default",
        admin=True,
    )
    resource_type: ClassVar[str] = RESOURCE_TYPE


class SetResourceConfig(ApiJob[ResourceConfig], frozen=True, kw_only=True):
    """Gives one resource, and all below it that carry no value of their own, another value than the
    cloud's."""

    api: ClassVar[Api] = Api(
        "resource-config.set",
        "POST",
        "/resources/{resource_uuid}/configs",
        "Override a setting on a resource",
        admin=True,
    )
    target: ClassVar[str] = "resource_uuid"

    resource_uuid: Uuid
    name: ConfigName
    value: Scalar


class ResetResourceConfig(ApiJob[ResourceConfig], frozen=True, kw_only=True):
    """Takes the resource's own value away. Answers with what holds from now on."""

    api: ClassVar[Api] = Api(
        "resource-config.reset",
        "POST",
        "/resources/{resource_uuid}/configs/actions/reset",
        "Take an override away",
        admin=True,
    )
    target: ClassVar[str] = "resource_uuid"

    resource_uuid: Uuid
    name: ConfigName


class GetResourceConfigs(ApiCall[ResourceConfigs], frozen=True, kw_only=True):
    """The values in force for one resource, and where each comes from."""

    api: ClassVar[Api] = Api(
        "resource-config.get",
        "GET",
        "/resources/{resource_uuid}/configs",
        "Show the settings of a resource",
        admin=True,
    )

    resource_uuid: Uuid


class GlobalConfigChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "global-config.changed"
    global_config: GlobalConfigInventory


class ResourceConfigChanged(Event, frozen=True, kw_only=True):
    """``resource_uuid`` got a value of its own, another one, or (None) lost it."""

    name: ClassVar[str] = "resource-config.changed"
    config: str
    value: str | None
