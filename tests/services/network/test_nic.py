"""NICs: an address and a MAC address each, never the same twice."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from mgmtnode.contracts.nic import (
    ADDRESS_FOREIGN,
    ADDRESS_TAKEN,
    BAD_MAC,
    MAC_TAKEN,
    NETWORK_NOT_USABLE,
    NO_ADDRESS,
    CreateNic,
    Nic,
)
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError, ErrorCode
from mgmtnode.jobs import ledger
from mgmtnode.node import ManagementNode
from mgmtnode.testing.cloud import Cloud
from services.network.addresses import number_of
from tests.services.network.conftest import Networks

STRATEGIES = ("RandomIp", "FirstAvailable", "AscDelayRecycle")


def fails_with(code: ErrorCode, act: Any) -> ApiError:
    with pytest.raises(ApiError) as failed:
        act()
    assert failed.value.code == code.id
    return failed.value


def test_a_nic_has_an_address_of_the_network_and_a_mac_address_of_its_own(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    nic = networks.nic(net, vm)
    assert nic.ip is not None
    assert nic.ip.startswith("10.0.0.")
    assert nic.mac.startswith("02:6d:6e:")
    shown = networks.cloud.get("nics", nic.uuid)
    assert (shown["ip"], shown["mac"], shown["vm_uuid"], shown["device_index"]) == (nic.ip, nic.mac, vm, 0)
    assert [shown["uuid"] for shown in networks.cloud.list("nics", f"l3_network_uuid={net['uuid']}")] == [
        nic.uuid
    ]


def test_what_create_answers_is_what_list_shows(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    made = [networks.nic(net, vm, device_index=index) for index in (1, 0, 2)]
    assert networks.nics(vm) == sorted(made, key=lambda nic: nic.device_index)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_address_is_given_once_and_then_the_network_is_full(networks: Networks, strategy: str) -> None:
    net, vm = networks.l3(allocator_strategy=strategy), networks.vm()
    networks.range(net, cidr="10.0.0.0/29")
    networks.range(net, start_ip="10.0.1.10", end_ip="10.0.1.13", netmask="255.255.255.0")
    got = [networks.nic(net, vm).ip for _ in range(9)]
    assert sorted(map(str, got)) == sorted(
        [f"10.0.0.{n}" for n in range(2, 7)] + [f"10.0.1.{n}" for n in range(10, 14)]
    )
    assert fails_with(NO_ADDRESS, lambda: networks.nic(net, vm)).problem.details["total"] == 9


def test_a_network_without_a_range_has_no_address(networks: Networks) -> None:
    net, vm = networks.l3(), networks.vm()
    fails_with(NO_ADDRESS, lambda: networks.nic(net, vm))


def test_first_available_gives_the_lowest_free_address(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/24", allocator_strategy="FirstAvailable"), networks.vm()
    nics = [networks.nic(net, vm) for _ in range(4)]
    assert [nic.ip for nic in nics] == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]
    networks.remove(vm, nics[1])
    later = [networks.nic(net, vm).ip]
    while (
        len(networks.cloud.nodes) > 1 and "10.0.0.3" not in later
    ):  # a moment later, if another node gave it back
        later.append(networks.nic(net, vm).ip)
    later.append(networks.nic(net, vm).ip)
    assert later[-2] == "10.0.0.3"
    assert sorted(map(number_of, later[:-2] + later[-1:])) == [
        number_of("10.0.0.6") + n for n in range(len(later) - 1)
    ]


def test_asc_delay_recycle_comes_back_to_a_freed_address_last(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/29", allocator_strategy="AscDelayRecycle"), networks.vm()
    nics = [networks.nic(net, vm) for _ in range(3)]
    networks.remove(vm, nics[0])
    networks.remove(vm, nics[2])
    assert [networks.nic(net, vm).ip for _ in range(4)] == ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.4"]


def test_a_static_address_is_given_once(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    assert networks.nic(net, vm, ip="10.0.0.77").ip == "10.0.0.77"
    fails_with(ADDRESS_TAKEN, lambda: networks.nic(net, vm, ip="10.0.0.77"))


@pytest.mark.parametrize("ip", ["10.0.1.5", "10.0.0.1", "10.0.0.0", "10.0.0.255"])
def test_an_address_outside_of_the_ranges_is_foreign(networks: Networks, ip: str) -> None:
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    fails_with(ADDRESS_FOREIGN, lambda: networks.nic(net, vm, ip=ip))


def test_a_given_mac_address_is_kept_and_refused_a_second_time(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    assert networks.nic(net, vm, mac="52:54:00:AA:00:01").mac == "52:54:00:aa:00:01"
    fails_with(MAC_TAKEN, lambda: networks.nic(net, vm, mac="52:54:00:aa:00:01"))
    assert networks.usage(net)["used"] == 1


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "52:54:00:aa:00", "x"])
def test_a_mac_address_that_is_not_of_one_interface_is_refused(networks: Networks, mac: str) -> None:
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    fails_with(BAD_MAC, lambda: networks.nic(net, vm, mac=mac))


def test_the_prefix_of_mac_addresses_is_a_config(networks: Networks) -> None:
    networks.cloud.config("network.mac_prefix", "0a:bc:de")
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    assert networks.nic(net, vm).mac.startswith("0a:bc:de:")


def test_a_disabled_network_gets_no_new_nics(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    networks.cloud.act("l3-networks", net["uuid"], "disable")
    fails_with(NETWORK_NOT_USABLE, lambda: networks.nic(net, vm))


def test_removing_frees_the_address_of_one_nic_or_of_all_and_may_be_repeated(networks: Networks) -> None:
    net, vm = networks.l3("10.0.0.0/24"), networks.vm()
    first, *_ = [networks.nic(net, vm, device_index=index) for index in range(3)]
    networks.remove(vm, first)
    networks.remove(vm, first)
    assert (networks.usage(net)["used"], len(networks.nics(vm))) == (2, 2)
    networks.remove(vm)
    networks.remove(vm)
    assert (networks.usage(net)["used"], networks.nics(vm)) == (0, [])


def test_a_nic_of_another_vm_is_not_removed(networks: Networks) -> None:
    net, vm, other = networks.l3("10.0.0.0/24"), networks.vm(), networks.vm()
    nic = networks.nic(net, vm)
    networks.remove(other, nic)
    assert networks.nics(vm) == [nic]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_quarantined_address_is_not_handed_out_until_it_is_settled(
    networks: Networks, strategy: str
) -> None:
    net, vm, other = networks.l3("10.0.0.0/29", allocator_strategy=strategy), networks.vm(), networks.vm()
    lost = networks.nic(net, vm)
    networks.write(lambda tx: ledger.quarantine(tx, vm))
    networks.remove(vm)
    assert networks.status(net, str(lost.ip)) == "Quarantined"
    fails_with(ADDRESS_TAKEN, lambda: networks.nic(net, other, ip=lost.ip))
    got = {networks.nic(net, other).ip for _ in range(4)}
    assert lost.ip not in got
    assert networks.usage(net) == {"total": 5, "used": 4, "quarantined": 1, "free": 0}
    fails_with(NO_ADDRESS, lambda: networks.nic(net, other))
    networks.write(lambda tx: ledger.settle(tx, vm))
    assert networks.nic(net, other).ip == lost.ip


async def create(msg: CreateNic, node: ManagementNode) -> Nic:
    def work(tx: Tx) -> Nic:
        return tx.call(msg)

    return await node.db.write(work)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_address_is_given_twice_to_two_hundred_at_once(
    cloud: Cloud, networks: Networks, strategy: str
) -> None:
    net = networks.l3("10.0.0.0/24", allocator_strategy=strategy)
    vms = [networks.vm() for _ in range(8)]
    messages = [networks.create_nic(net, vms[n % len(vms)], device_index=n) for n in range(200)]

    ended = cloud.at_once(partial(create, msg) for msg in messages)
    nics = [each for each in ended if isinstance(each, Nic)]
    assert len({nic.ip for nic in nics}) == len({nic.mac for nic in nics}) == 200
    assert networks.usage(net)["used"] == 200


def test_the_last_address_goes_to_exactly_one_of_many(cloud: Cloud, networks: Networks) -> None:
    net = networks.l3("10.0.0.0/29")
    vms = [networks.vm() for _ in range(20)]
    messages = [networks.create_nic(net, vm) for vm in vms]

    ended = cloud.at_once(partial(create, msg) for msg in messages)
    assert len({each.ip for each in ended if isinstance(each, Nic)}) == 5
    assert {each.code for each in ended if isinstance(each, ApiError)} == {NO_ADDRESS.id}
