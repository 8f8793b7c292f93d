"""What becomes of running VMs when their networks go, and where they run because of their networks."""

from __future__ import annotations

from typing import Any

import pytest

from mgmtnode.testing.cloud import Cloud
from tests.services.network.conftest import Json, Networks, refused_with

GIB = 1 << 30


@pytest.fixture
def hosts(networks: Networks) -> list[Json]:
    """Two clusters with a simulated host each."""
    if "vm" not in networks.cloud.turn().node.parts.context.query.graph:
        pytest.skip("the vm service is not installed")
    return [add_host(networks, f"host{n}") for n in range(2)]


def add_host(networks: Networks, name: str) -> Json:
    zone, cloud = networks.zone["uuid"], networks.cloud
    cluster = cloud.create("clusters", name=name, zone_uuid=zone, hypervisor="simulator")
    return cloud.create("hosts", name=name, cluster_uuid=cluster["uuid"], management_ip=name)


def run(cloud: Cloud, *nets: Json, **fields: Any) -> Json:
    uuids = [net["uuid"] for net in nets]
    return cloud.create(
        "vms", **({"name": "vm", "cpu": 1, "memory": GIB, "l3_network_uuids": uuids} | fields)
    )


def test_a_vm_runs_where_its_network_is(networks: Networks, hosts: list[Json]) -> None:
    wire = networks.l2()
    networks.cloud.act("l2-networks", wire["uuid"], "attach-cluster", cluster_uuid=hosts[1]["cluster_uuid"])
    net = networks.l3("10.0.0.0/24", l2_network_uuid=wire["uuid"])
    assert {run(networks.cloud, net)["host_uuid"] for _ in range(4)} == {hosts[1]["uuid"]}


def test_no_host_is_found_for_a_network_that_is_in_no_cluster(networks: Networks, hosts: list[Json]) -> None:
    wire = networks.l2()
    networks.cloud.update("l2-networks", wire["uuid"], all_clusters=False)
    net = networks.l3("10.0.0.0/24", l2_network_uuid=wire["uuid"])
    refused_with("allocator.no-host", lambda: run(networks.cloud, net))
    assert networks.usage(net)["used"] == 0


@pytest.mark.parametrize("plural", ["l3-networks", "l2-networks", "ip-ranges"])
def test_a_forced_deletion_takes_the_nics_from_running_vms(
    networks: Networks, hosts: list[Json], plural: str
) -> None:
    wire = networks.l2()
    net, other = networks.l3(l2_network_uuid=wire["uuid"]), networks.l3("10.0.1.0/24")
    doomed = {"l2-networks": wire, "l3-networks": net, "ip-ranges": networks.range(net, cidr="10.0.0.0/24")}[
        plural
    ]
    vms = [run(networks.cloud, net, other)["uuid"] for _ in range(3)]
    refused_with("network.in-use", lambda: networks.cloud.delete(plural, doomed["uuid"]))
    networks.cloud.delete(plural, doomed["uuid"], force=True)
    for uuid in vms:
        vm = networks.cloud.get("vms", uuid)
        assert (vm["state"], [nic["l3_network_uuid"] for nic in vm["nics"]]) == ("Running", [other["uuid"]])
    assert [job["state"] for job in networks.cloud.list("jobs", "api=vm.detach-nic")] == ["Succeeded"] * 3


def test_a_cluster_is_not_detached_from_under_the_nics_of_its_vms(
    networks: Networks, hosts: list[Json]
) -> None:
    wire, cluster = networks.l2(), hosts[0]["cluster_uuid"]
    networks.cloud.act("l2-networks", wire["uuid"], "attach-cluster", cluster_uuid=cluster)
    vm = run(networks.cloud, networks.l3("10.0.0.0/24", l2_network_uuid=wire["uuid"]))
    detach = ("l2-networks", wire["uuid"], "detach-cluster")
    refused_with("network.in-use", lambda: networks.cloud.act(*detach, cluster_uuid=cluster))
    networks.cloud.act("vms", vm["uuid"], "detach-nic", nic_uuid=vm["nics"][0]["uuid"])
    assert networks.cloud.act(*detach, cluster_uuid=cluster)["cluster_uuids"] == []


def test_a_zone_goes_with_its_networks_while_vms_run(networks: Networks, hosts: list[Json]) -> None:
    net = networks.l3("10.0.0.0/24", l2_network_uuid=networks.l2()["uuid"])
    run(networks.cloud, net)
    networks.cloud.delete("zones", networks.zone["uuid"])
    assert networks.cloud.gone("l3-networks", net["uuid"])


def test_a_deleted_offering_leaves_the_vms_made_in_it(networks: Networks, hosts: list[Json]) -> None:
    offering = networks.cloud.create("instance-offerings", name="small", cpu=2, memory=GIB)
    vm = run(networks.cloud, cpu=None, memory=None, instance_offering_uuid=offering["uuid"])
    networks.cloud.delete("instance-offerings", offering["uuid"])
    left = networks.cloud.get("vms", vm["uuid"])
    assert (left["state"], left["cpu"], left["instance_offering_uuid"]) == ("Running", 2, None)


def test_the_nics_of_a_vm_go_to_its_new_owner_with_it_and_never_alone(
    networks: Networks, hosts: list[Json]
) -> None:
    cloud, acme = networks.cloud, networks.cloud.tenant("acme")
    vm = run(cloud, networks.l3("10.0.0.0/24"))
    body = {"account_uuid": acme.call("GET", "/whoami")["account_uuid"]}
    refused_with(
        "resource.not-shareable",
        lambda: cloud.call("POST", f"/resources/{vm['nics'][0]['uuid']}/actions/change-owner", body),
    )
    assert acme.list("nics") == []
    cloud.call("POST", f"/resources/{vm['uuid']}/actions/change-owner", body)
    assert [nic["uuid"] for nic in acme.list("nics")] == [vm["nics"][0]["uuid"]]


def test_the_addresses_of_a_network_go_to_its_new_owner_with_it(networks: Networks) -> None:
    acme, net = networks.cloud.tenant("acme"), networks.l3("10.0.0.0/24")
    body = {"account_uuid": acme.call("GET", "/whoami")["account_uuid"]}
    networks.cloud.call("POST", f"/resources/{net['uuid']}/actions/change-owner", body)
    assert [r["l3_network_uuid"] for r in acme.list("ip-ranges")] == [net["uuid"]]
