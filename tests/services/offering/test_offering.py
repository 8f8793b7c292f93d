"""Instance offerings, through the API of a running node."""

from __future__ import annotations

from typing import Any

import pytest

from mgmtnode.testing.cloud import Cloud, Refused

GIB = 1 << 30


def small(cloud: Cloud, **fields: Any) -> dict[str, Any]:
    return cloud.create("instance-offerings", **({"name": "small", "cpu": 2, "memory": 4 * GIB} | fields))


def test_an_offering_is_created_enabled_and_found_again(cloud: Cloud) -> None:
    offering = small(cloud, description="for tests")
    assert (offering["cpu"], offering["memory"], offering["state"]) == (2, 4 * GIB, "Enabled")
    assert offering["allocator_strategy"] == ""
    assert cloud.get("instance-offerings", offering["uuid"]) == offering


def test_offerings_are_found_by_size(cloud: Cloud) -> None:
    small(cloud)
    small(cloud, name="large", cpu=16)
    assert [o["name"] for o in cloud.list("instance-offerings", "cpu>4")] == ["large"]


def test_every_account_sees_an_offering_and_no_tenant_makes_or_changes_one(cloud: Cloud) -> None:
    uuid = small(cloud)["uuid"]
    tenant = cloud.tenant()
    assert tenant.get("instance-offerings", uuid)["name"] == "small"
    for act in (lambda: small(tenant), lambda: tenant.update("instance-offerings", uuid, name="mine")):
        with pytest.raises(Refused) as refused:
            act()
        assert refused.value.status == 403


def test_an_offering_that_is_no_longer_shared_is_hidden_from_tenants(cloud: Cloud) -> None:
    uuid = small(cloud)["uuid"]
    tenant = cloud.tenant()
    cloud.act("resources", uuid, "unshare")
    assert tenant.gone("instance-offerings", uuid)


def test_only_name_and_description_change(cloud: Cloud) -> None:
    uuid = small(cloud)["uuid"]
    changed = cloud.update("instance-offerings", uuid, name="tiny", description="new")
    assert (changed["name"], changed["description"], changed["cpu"]) == ("tiny", "new", 2)
    with pytest.raises(Refused) as refused:
        cloud.update("instance-offerings", uuid, cpu=4)
    assert refused.value.status in (400, 422)


def test_disabling_and_enabling_are_idempotent(cloud: Cloud) -> None:
    uuid = small(cloud)["uuid"]
    for action, state in (("disable", "Disabled"), ("disable", "Disabled"), ("enable", "Enabled")):
        assert cloud.act("instance-offerings", uuid, action)["state"] == state


def test_a_deleted_offering_is_gone(cloud: Cloud) -> None:
    uuid = small(cloud)["uuid"]
    cloud.delete("instance-offerings", uuid)
    assert cloud.gone("instance-offerings", uuid)


def test_an_allocator_strategy_that_nobody_installed_is_refused(cloud: Cloud) -> None:
    with pytest.raises(Refused) as refused:
        small(cloud, allocator_strategy="Telepathic")
    assert refused.value.code == "allocator.strategy-unknown"
