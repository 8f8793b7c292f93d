"""Zones, through the API of a running node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mgmtnode.testing.cloud import Cloud, Refused


def test_a_zone_is_created_enabled_and_found_again(cloud: Cloud) -> None:
    zone = cloud.create("zones", name="west", description="by the sea")
    assert (zone["name"], zone["description"], zone["state"]) == ("west", "by the sea", "Enabled")
    assert cloud.get("zones", zone["uuid"]) == zone


def test_a_patch_changes_only_what_it_names(cloud: Cloud) -> None:
    zone = cloud.create("zones", name="west", description="by the sea")
    changed = cloud.update("zones", zone["uuid"], name="east")
    assert (changed["name"], changed["description"]) == ("east", "by the sea")
    assert changed["updated_at"] > zone["updated_at"]


def test_disabling_and_enabling_are_idempotent(cloud: Cloud) -> None:
    uuid = cloud.create("zones", name="west")["uuid"]
    for action, state in (("disable", "Disabled"), ("disable", "Disabled"), ("enable", "Enabled")):
        assert cloud.act("zones", uuid, action)["state"] == state


def test_a_deleted_zone_is_gone_and_deleting_it_again_is_not_found(cloud: Cloud) -> None:
    uuid = cloud.create("zones", name="west")["uuid"]
    cloud.delete("zones", uuid)
    assert cloud.gone("zones", uuid)
    with pytest.raises(Refused) as refused:
        cloud.delete("zones", uuid)
    assert (refused.value.status, refused.value.code) == (404, "core.not-found")


def test_tags_given_at_creation_can_be_searched_for(cloud: Cloud) -> None:
    cloud.create("zones", name="west", user_tags=["blue"])
    cloud.create("zones", name="east")
    assert [zone["name"] for zone in cloud.list("zones", "user_tag=blue")] == ["west"]


def test_each_change_is_one_event_in_order(cloud: Cloud) -> None:
    uuid = cloud.create("zones", name="west")["uuid"]
    cloud.update("zones", uuid, name="east")
    cloud.delete("zones", uuid)
    mine = [(event.name, event.revision) for event in cloud.logged() if event.resource_uuid == uuid]
    assert mine == [("zone.created", 1), ("zone.changed", 2), ("zone.deleted", 3)]


def test_a_tenant_may_not_make_zones(cloud: Cloud) -> None:
    with pytest.raises(Refused) as refused:
        cloud.tenant().create("zones", name="mine")
    assert (refused.value.status, refused.value.code) == (403, "core.denied")


def test_of_many_changes_to_one_version_of_a_zone_one_is_done(cloud: Cloud) -> None:
    zone = cloud.create("zones", name="west")
    seen = cloud.request("GET", f"/zones/{zone['uuid']}").headers["etag"]

    def change(n: int) -> int:
        answer = cloud.http.patch(
            f"/v1/zones/{zone['uuid']}",
            json={"description": str(n)},
            headers={"if-match": seen, "prefer": "wait=30"},
        )
        return answer.status_code

    with ThreadPoolExecutor(8) as threads:
        answers = sorted(threads.map(change, range(16)))
    assert answers[0] == 200 and set(answers[1:]) <= {409, 412}


def test_a_change_that_waits_behind_the_deletion_of_its_zone_is_not_found(cloud: Cloud) -> None:
    uuid = cloud.create("zones", name="west")["uuid"]
    http = cloud.http
    asked = [
        http.delete(f"/v1/zones/{uuid}"),
        *(http.post(f"/v1/zones/{uuid}/actions/disable") for _ in range(5)),
    ]
    for answer in asked[1:]:
        if answer.status_code == 404:
            continue  # the deletion was faster
        assert answer.status_code == 202, answer.text
        ended = http.get(f"/v1/jobs/{answer.json()['uuid']}", params={"wait": 30}).json()
        assert (ended["state"], ended["error"]["code"]) == ("Failed", "core.not-found")
