"""Global configs through the API of a running node."""

from __future__ import annotations

import pytest

from mgmtnode.testing.cloud import Cloud, Refused

NAME = "config.refresh_interval"


def test_a_config_is_found_by_name_changed_and_reset(cloud: Cloud) -> None:
    before = cloud.get("global-configs", NAME)
    changed = cloud.update("global-configs", before["uuid"], value=60)
    reset = cloud.act("global-configs", before["uuid"], "reset")
    assert (before["value"], changed["value"], changed["changed"]) == ("30", "60", True)
    assert (reset["value"], reset["changed"]) == ("30", False)


def test_configs_are_listed_and_filtered_like_every_resource(cloud: Cloud) -> None:
    found = cloud.list("global-configs", "category=config")
    assert [c["name"] for c in found] == [NAME]


def test_a_value_that_does_not_fit_is_refused_at_once(cloud: Cloud) -> None:
    uuid = cloud.get("global-configs", NAME)["uuid"]
    for value in (0, "often", None):
        with pytest.raises(Refused) as refused:
            cloud.update("global-configs", uuid, value=value)
        assert refused.value.status == 400
    with pytest.raises(Refused) as refused:
        cloud.call("POST", f"/resources/{uuid}/configs", {"name": NAME, "value": 10})
    assert refused.value.code == "config.not-overridable"


def test_a_resource_shows_the_configs_it_may_carry(cloud: Cloud) -> None:
    zone = cloud.create("zones", name="west")
    shown = cloud.call("GET", f"/resources/{zone['uuid']}/configs")
    assert shown["resource_uuid"] == zone["uuid"]
    assert all(c["source"] in ("global", "zone") for c in shown["configs"])
