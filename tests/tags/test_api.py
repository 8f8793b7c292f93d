"""Tags through the API of a running node."""

from __future__ import annotations

import pytest

from mgmtnode.testing.cloud import Cloud, Refused


def test_a_user_tag_is_added_found_and_taken_away(cloud: Cloud) -> None:
    zone = cloud.create("zones", name="west")
    tag = cloud.call("POST", f"/resources/{zone['uuid']}/user-tags", {"text": "blue"})
    assert cloud.list("tags", f"resource_uuid={zone['uuid']}") == [tag]
    assert [z["uuid"] for z in cloud.list("zones", "user_tag=blue")] == [zone["uuid"]]
    cloud.call("DELETE", f"/resources/{zone['uuid']}/tags/{tag['uuid']}")
    assert cloud.list("tags") == []


def test_tags_given_at_creation_go_with_the_resource(cloud: Cloud) -> None:
    zone = cloud.create("zones", name="west", user_tags=["blue", "sea"])
    assert sorted(t["text"] for t in cloud.list("tags")) == ["blue", "sea"]
    cloud.delete("zones", zone["uuid"])
    assert cloud.list("tags") == []


def test_a_system_tag_nobody_declares_is_refused(cloud: Cloud) -> None:
    zone = cloud.create("zones", name="west")
    with pytest.raises(Refused) as refused:
        cloud.call("POST", f"/resources/{zone['uuid']}/system-tags", {"text": "nobody::x"})
    assert (refused.value.status, refused.value.code) == (400, "tag.unknown")
    with pytest.raises(Refused) as refused:
        cloud.create("zones", name="east", system_tags=["nobody::x"])
    assert refused.value.code == "tag.unknown"
    assert [z["name"] for z in cloud.list("zones")] == ["west"]
