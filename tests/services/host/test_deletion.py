"""Deleting hosts, and what is above them."""

from __future__ import annotations

from tests.services.host.conftest import Rack


def test_a_deleted_host_is_let_go_and_its_capacity_with_it(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.cloud.delete("hosts", uuid)
    assert rack.cloud.gone("hosts", uuid)
    assert rack.script.calls[-1] == ("disconnect", "h1")
    assert rack.script.said("capacity gone") == [uuid]
    assert rack.events(uuid)[-1] == "host.deleted"


def test_a_host_that_does_not_answer_can_be_deleted(rack: Rack) -> None:
    host = rack.add()
    rack.script.down.add("h1")
    rack.cloud.delete("hosts", host["uuid"])
    assert rack.cloud.gone("hosts", host["uuid"])


def test_a_host_in_maintenance_can_be_deleted(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.cloud.act("hosts", uuid, "maintain")
    rack.cloud.delete("hosts", uuid)
    assert rack.cloud.gone("hosts", uuid)


def test_a_zone_takes_its_clusters_and_their_hosts_along(rack: Rack) -> None:
    hosts = [rack.add(f"h{n}")["uuid"] for n in range(3)]
    elsewhere = rack.cloud.create("zones", name="east")["uuid"]
    other = rack.cloud.create("clusters", name="other", zone_uuid=elsewhere, hypervisor="scripted")["uuid"]
    kept = rack.add("h9", cluster_uuid=other)["uuid"]
    rack.cloud.delete("zones", rack.zone)
    assert rack.cloud.gone("zones", rack.zone)
    assert rack.cloud.gone("clusters", rack.cluster)
    assert all(rack.cloud.gone("hosts", uuid) for uuid in hosts)
    assert [host["uuid"] for host in rack.cloud.list("hosts")] == [kept]
    assert sorted(rack.script.said("capacity gone")) == sorted(hosts)
