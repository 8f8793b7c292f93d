"""Clusters, through the API of a running node."""

from __future__ import annotations

from typing import Any

import pytest

from mgmtnode.testing.cloud import Cloud, Refused


@pytest.fixture
def zone(cloud: Cloud) -> str:
    return str(cloud.create("zones", name="west")["uuid"])


def make(cloud: Cloud, zone: str, **more: Any) -> dict[str, Any]:
    fields = {"name": "racks", "zone_uuid": zone, "hypervisor": "simulator"} | more
    return cloud.create("clusters", **fields)


def test_a_cluster_is_created_enabled_in_its_zone_and_found_by_it(cloud: Cloud, zone: str) -> None:
    cluster = make(cloud, zone, description="row 7")
    assert (cluster["zone_uuid"], cluster["hypervisor"], cluster["state"]) == (zone, "simulator", "Enabled")
    assert cloud.get("clusters", cluster["uuid"]) == cluster
    assert cloud.list("clusters", "zone.name=west") == [cluster]
    assert [each["uuid"] for each in cloud.list("zones", "clusters.name=racks")] == [zone]


def test_a_hypervisor_that_nobody_drives_is_refused_naming_those_that_are_driven(
    cloud: Cloud, zone: str
) -> None:
    with pytest.raises(Refused) as refused:
        make(cloud, zone, hypervisor="abacus")
    assert (refused.value.status, refused.value.code) == (400, "cluster.hypervisor-unknown")
    assert "simulator" in refused.value.problem["details"]["known"]


def test_a_zone_that_is_not_there_is_refused(cloud: Cloud, zone: str) -> None:
    with pytest.raises(Refused) as refused:
        make(cloud, "00000000-0000-7000-8000-000000000000")
    assert (refused.value.status, refused.value.problem["details"]["field"]) == (404, "zone_uuid")


def test_a_patch_changes_only_what_it_names(cloud: Cloud, zone: str) -> None:
    cluster = make(cloud, zone, description="row 7")
    changed = cloud.update("clusters", cluster["uuid"], name="shelves")
    assert (changed["name"], changed["description"]) == ("shelves", "row 7")
    with pytest.raises(Refused) as refused:
        cloud.update("clusters", cluster["uuid"], hypervisor="kvm")
    assert refused.value.status == 400


def test_disabling_and_enabling_are_idempotent(cloud: Cloud, zone: str) -> None:
    uuid = make(cloud, zone)["uuid"]
    for action, state in (("disable", "Disabled"), ("disable", "Disabled"), ("enable", "Enabled")):
        assert cloud.act("clusters", uuid, action)["state"] == state


def test_each_change_is_one_event_in_order(cloud: Cloud, zone: str) -> None:
    uuid = make(cloud, zone)["uuid"]
    cloud.act("clusters", uuid, "disable")
    cloud.delete("clusters", uuid)
    mine = [(event.name, event.revision) for event in cloud.logged() if event.resource_uuid == uuid]
    assert mine == [("cluster.created", 1), ("cluster.changed", 2), ("cluster.deleted", 3)]


def test_a_deleted_cluster_takes_its_hosts_along_and_leaves_others(cloud: Cloud, zone: str) -> None:
    doomed, kept = make(cloud, zone), make(cloud, zone, name="shelves")
    hosts = {
        cluster["name"]: cloud.create(
            "hosts",
            name=cluster["name"],
            cluster_uuid=cluster["uuid"],
            management_ip=f"sim-{cluster['name']}",
        )["uuid"]
        for cluster in (doomed, kept)
    }
    cloud.delete("clusters", doomed["uuid"])
    assert cloud.gone("clusters", doomed["uuid"])
    assert [host["uuid"] for host in cloud.list("hosts")] == [hosts["shelves"]]


def test_a_deleted_zone_takes_its_clusters_along(cloud: Cloud, zone: str) -> None:
    uuids = [make(cloud, zone, name=name)["uuid"] for name in ("a", "b")]
    cloud.delete("zones", zone)
    assert all(cloud.gone("clusters", uuid) for uuid in uuids)


def test_a_tenant_may_not_make_clusters_and_sees_none(cloud: Cloud, zone: str) -> None:
    make(cloud, zone)
    tenant = cloud.tenant()
    assert tenant.list("clusters") == []
    with pytest.raises(Refused) as refused:
        make(tenant, zone)
    assert (refused.value.status, refused.value.code) == (403, "core.denied")
