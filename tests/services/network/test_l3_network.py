"""L3 networks, through the API of a running node."""

from __future__ import annotations

import pytest

from mgmtnode.contracts.l2_network import ZONE_MISMATCH
from mgmtnode.contracts.network import NETWORK_IN_USE
from mgmtnode.contracts.quota import QUOTA_EXCEEDED
from mgmtnode.testing.cloud import Cloud, Refused
from tests.services.network.conftest import Json, Networks, refused_with


def test_a_name_and_a_zone_make_a_network(networks: Networks) -> None:
    net = networks.l3()
    assert (net["state"], net["l2_network_uuid"], net["allocator_strategy"]) == ("Enabled", None, "RandomIp")
    assert (net["dns"], net["domain"], net["ip_ranges"]) == ([], "", [])
    assert networks.cloud.get("l3-networks", net["uuid"]) == net


def test_a_network_shows_its_ranges(networks: Networks) -> None:
    net = networks.l3("10.0.0.0/24")
    (shown,) = networks.cloud.get("l3-networks", net["uuid"])["ip_ranges"]
    shown.pop("uuid")
    assert shown == {
        "start_ip": "10.0.0.2",
        "end_ip": "10.0.0.254",
        "gateway": "10.0.0.1",
        "netmask": "255.255.255.0",
        "cidr": "10.0.0.0/24",
    }


def test_the_strategy_of_new_networks_is_a_config(networks: Networks) -> None:
    networks.cloud.config("network.allocator_strategy", "FirstAvailable")
    assert networks.l3()["allocator_strategy"] == "FirstAvailable"
    assert networks.l3(allocator_strategy="AscDelayRecycle")["allocator_strategy"] == "AscDelayRecycle"


def test_a_patch_changes_what_it_names(networks: Networks) -> None:
    net = networks.l3(dns=["9.9.9.9"])
    changed = networks.cloud.update(
        "l3-networks", net["uuid"], domain="cloud.example", dns=["1.1.1.1", "8.8.8.8"]
    )
    assert (changed["name"], changed["domain"], changed["dns"]) == (
        "net",
        "cloud.example",
        ["1.1.1.1", "8.8.8.8"],
    )
    renamed = networks.cloud.update(
        "l3-networks", net["uuid"], name="other", allocator_strategy="FirstAvailable"
    )
    assert (renamed["name"], renamed["allocator_strategy"]) == ("other", "FirstAvailable")
    assert renamed["dns"] == changed["dns"]


@pytest.mark.parametrize(
    "fields", [{"dns": ["x"]}, {"dns": ["1.1.1.1"] * 9}, {"domain": "-x"}, {"domain": "a..b"}]
)
def test_name_servers_and_domain_are_checked(networks: Networks, fields: Json) -> None:
    refused_with("api.invalid-field", lambda: networks.l3(**fields))


def test_an_l2_network_of_another_zone_is_refused(networks: Networks) -> None:
    wire = networks.l2(zone_uuid=networks.cloud.create("zones", name="east")["uuid"])
    refused_with(ZONE_MISMATCH, lambda: networks.l3(l2_network_uuid=wire["uuid"]))


def test_disabling_and_enabling_are_idempotent(networks: Networks) -> None:
    uuid = networks.l3()["uuid"]
    for action, state in (("disable", "Disabled"), ("disable", "Disabled"), ("enable", "Enabled")):
        assert networks.cloud.act("l3-networks", uuid, action)["state"] == state


def test_usage_counts_addresses(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/28"), networks.vm()
    networks.range(net, cidr="10.0.1.0/28")
    assert networks.usage(net) == {"total": 26, "used": 0, "quarantined": 0, "free": 26}
    networks.nic(net, vm)
    assert networks.usage(net) == {"total": 26, "used": 1, "quarantined": 0, "free": 25}


def test_an_address_is_free_used_or_foreign(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/28"), networks.vm()
    networks.nic(net, vm, ip="10.0.0.5")
    assert [networks.status(net, ip) for ip in ("10.0.0.5", "10.0.0.6", "10.0.0.1", "10.0.1.5")] == [
        "Used", "Free", "Foreign", "Foreign",
    ]  # fmt: skip


def test_a_deletion_takes_the_ranges_along(networks: Networks) -> None:
    net = networks.l3("10.0.0.0/28")
    networks.cloud.delete("l3-networks", net["uuid"])
    assert networks.cloud.gone("l3-networks", net["uuid"])
    assert networks.cloud.list("ip-ranges") == []


def test_a_deletion_is_refused_while_nics_use_it_unless_forced(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/28"), networks.vm()
    networks.nic(net, vm)
    refused_with(NETWORK_IN_USE, lambda: networks.cloud.delete("l3-networks", net["uuid"]))
    assert len(networks.nics(vm)) == 1
    networks.cloud.delete("l3-networks", net["uuid"], force=True)
    assert networks.nics(vm) == []
    assert networks.cloud.list("nics") == []


def test_a_zone_takes_a_network_in_use_along(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/28"), networks.vm()
    networks.nic(net, vm)
    networks.cloud.delete("zones", networks.zone["uuid"])
    assert networks.cloud.gone("l3-networks", net["uuid"])


def tenant_in(networks: Networks) -> Cloud:
    """A tenant who may use the zone."""
    tenant = networks.cloud.tenant()
    networks.cloud.act("resources", networks.zone["uuid"], "share")
    return tenant


def test_a_tenant_makes_networks_and_ranges_of_its_own(networks: Networks) -> None:
    tenant = tenant_in(networks)
    net = tenant.create("l3-networks", name="mine", zone_uuid=networks.zone["uuid"])
    tenant.create("ip-ranges", l3_network_uuid=net["uuid"], cidr="192.168.0.0/24")
    assert tenant.call("GET", f"/l3-networks/{net['uuid']}/ip-usage")["total"] == 253
    other = networks.cloud.tenant("other")
    assert other.gone("l3-networks", net["uuid"])
    with pytest.raises(Refused) as refused:
        other.call("GET", f"/l3-networks/{net['uuid']}/ip-usage")
    assert refused.value.status == 404
    tenant.delete("l3-networks", net["uuid"])


def test_a_range_that_the_operator_adds_belongs_to_the_tenant(networks: Networks) -> None:
    tenant = tenant_in(networks)
    net = tenant.create("l3-networks", name="mine", zone_uuid=networks.zone["uuid"])
    added = networks.range(net, cidr="192.168.0.0/24")
    assert tenant.get("ip-ranges", added["uuid"]) == added


def test_a_shared_network_is_used_by_tenants_and_changed_by_its_owner_only(networks: Networks) -> None:
    net = networks.l3("10.0.0.0/28")
    tenant = networks.cloud.tenant()
    assert tenant.gone("l3-networks", net["uuid"])
    networks.cloud.act("resources", net["uuid"], "share")
    assert tenant.get("l3-networks", net["uuid"])["name"] == "net"
    for act in (
        lambda: tenant.update("l3-networks", net["uuid"], name="mine"),
        lambda: tenant.create("ip-ranges", l3_network_uuid=net["uuid"], cidr="10.1.0.0/24"),
    ):
        assert refused_with("core.denied", act).status == 403


def test_networks_count_against_the_quota_until_they_are_deleted(networks: Networks) -> None:
    tenant = tenant_in(networks)
    quota = tenant.list("quotas", "name=network.l3")
    quota = quota or networks.cloud.list("quotas", "name=network.l3")
    networks.cloud.update("quotas", quota[0]["uuid"], value=1)
    net = tenant.create("l3-networks", name="one", zone_uuid=networks.zone["uuid"])
    refused_with(
        QUOTA_EXCEEDED, lambda: tenant.create("l3-networks", name="two", zone_uuid=networks.zone["uuid"])
    )
    tenant.delete("l3-networks", net["uuid"])
    tenant.create("l3-networks", name="two", zone_uuid=networks.zone["uuid"])
