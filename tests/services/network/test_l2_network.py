"""L2 networks, through the API of a running node."""

from __future__ import annotations

import pytest

from mgmtnode.contracts.l2_network import BAD_VLAN, ZONE_MISMATCH
from mgmtnode.contracts.network import NETWORK_IN_USE
from mgmtnode.testing.cloud import Refused
from tests.services.network.conftest import Networks, refused_with


def test_an_l2_network_starts_in_all_clusters_of_its_zone(networks: Networks) -> None:
    wire = networks.l2(type="Vlan", vlan=100)
    assert (wire["type"], wire["vlan"], wire["physical_interface"]) == ("Vlan", 100, "eth0")
    assert (wire["all_clusters"], wire["cluster_uuids"]) == (True, [])
    assert networks.cloud.get("l2-networks", wire["uuid"]) == wire


@pytest.mark.parametrize("fields", [{"type": "Vlan"}, {"type": "NoVlan", "vlan": 5}, {"vlan": 5}])
def test_a_vlan_goes_with_type_vlan_only(networks: Networks, fields: dict[str, object]) -> None:
    refused_with(BAD_VLAN, lambda: networks.l2(**fields))


@pytest.mark.parametrize("vlan", [0, 4095, -1])
def test_a_vlan_id_has_twelve_bits_without_the_reserved_ones(networks: Networks, vlan: int) -> None:
    assert refused_with("api.invalid-field", lambda: networks.l2(type="Vlan", vlan=vlan)).problem


def test_attaching_narrows_the_network_to_the_attached_clusters(networks: Networks) -> None:
    wire, one, two = networks.l2(), networks.cluster(), networks.cluster()
    for cluster in (one, two, one):
        wire = networks.cloud.act("l2-networks", wire["uuid"], "attach-cluster", cluster_uuid=cluster)
    assert (wire["all_clusters"], wire["cluster_uuids"]) == (False, sorted([one, two]))
    wire = networks.cloud.act("l2-networks", wire["uuid"], "detach-cluster", cluster_uuid=one)
    assert (wire["all_clusters"], wire["cluster_uuids"]) == (False, [two])
    assert networks.cloud.list("l2-networks", f"clusters.uuid={two}") == [wire]


def test_detaching_the_last_cluster_leaves_it_in_none_until_it_is_widened(networks: Networks) -> None:
    wire, cluster = networks.l2(), networks.cluster()
    for action in ("attach-cluster", "detach-cluster", "detach-cluster"):
        wire = networks.cloud.act("l2-networks", wire["uuid"], action, cluster_uuid=cluster)
    assert (wire["all_clusters"], wire["cluster_uuids"]) == (False, [])
    assert networks.cloud.update("l2-networks", wire["uuid"], all_clusters=True)["all_clusters"] is True


def test_a_cluster_of_another_zone_cannot_be_attached(networks: Networks) -> None:
    wire, cluster = networks.l2(), networks.cluster(networks.cloud.create("zones", name="east"))
    refused_with(
        ZONE_MISMATCH,
        lambda: networks.cloud.act("l2-networks", wire["uuid"], "attach-cluster", cluster_uuid=cluster),
    )


def test_a_deleted_cluster_is_no_longer_attached_and_the_network_gets_no_wider(networks: Networks) -> None:
    wire, cluster = networks.l2(), networks.cluster()
    networks.cloud.act("l2-networks", wire["uuid"], "attach-cluster", cluster_uuid=cluster)
    networks.cloud.delete("clusters", cluster)
    wire = networks.cloud.get("l2-networks", wire["uuid"])
    assert (wire["all_clusters"], wire["cluster_uuids"]) == (False, [])


def test_a_deletion_takes_the_l3_networks_and_their_ranges_along(networks: Networks) -> None:
    wire = networks.l2()
    net = networks.l3("10.0.0.0/24", l2_network_uuid=wire["uuid"])
    networks.cloud.delete("l2-networks", wire["uuid"])
    assert networks.cloud.gone("l2-networks", wire["uuid"])
    assert networks.cloud.gone("l3-networks", net["uuid"])
    assert networks.cloud.list("ip-ranges") == []


def test_a_deletion_is_refused_while_nics_use_it_unless_forced(networks: Networks) -> None:
    wire, vm = networks.l2(), networks.vm()
    networks.nic(networks.l3("10.0.0.0/24", l2_network_uuid=wire["uuid"]), vm)
    refused_with(NETWORK_IN_USE, lambda: networks.cloud.delete("l2-networks", wire["uuid"]))
    networks.cloud.delete("l2-networks", wire["uuid"], force=True)
    assert networks.nics(vm) == []


def test_a_zone_takes_its_networks_along_whichever_way_they_are_reached(networks: Networks) -> None:
    wires = [networks.l2(name=f"wire{n}") for n in range(3)]
    nets = [networks.l3(f"10.0.{n}.0/24", l2_network_uuid=wire["uuid"]) for n, wire in enumerate(wires)]
    nets.append(networks.l3("10.1.0.0/24"))
    networks.cloud.delete("zones", networks.zone["uuid"])
    assert all(networks.cloud.gone("l2-networks", wire["uuid"]) for wire in wires)
    assert all(networks.cloud.gone("l3-networks", net["uuid"]) for net in nets)


def test_a_tenant_may_not_make_l2_networks(networks: Networks) -> None:
    tenant = networks.cloud.tenant()
    with pytest.raises(Refused) as refused:
        tenant.create("l2-networks", name="mine", zone_uuid=networks.zone["uuid"], physical_interface="eth0")
    assert refused.value.status == 403


def test_each_change_of_a_wire_is_an_event(networks: Networks) -> None:
    wire = networks.l2()
    networks.cloud.update("l2-networks", wire["uuid"], name="cable")
    networks.cloud.delete("l2-networks", wire["uuid"])
    mine = [event.name for event in networks.cloud.logged() if event.resource_uuid == wire["uuid"]]
    assert mine == ["l2_network.created", "l2_network.changed", "l2_network.deleted"]
