"""IP ranges, through the API of a running node."""

from __future__ import annotations

from functools import partial

import pytest

from mgmtnode.contracts.ip_range import (
    BAD_GATEWAY,
    BAD_RANGE,
    RANGE_OVERLAP,
    RANGE_RESERVED,
    RANGE_TOO_LARGE,
    SUBNET_MISMATCH,
    CreateIpRange,
)
from mgmtnode.contracts.network import NETWORK_IN_USE
from mgmtnode.errors import ErrorCode
from mgmtnode.jobs.job import SYSTEM, JobState
from mgmtnode.node import ManagementNode
from mgmtnode.testing.cloud import Cloud
from tests.services.network.conftest import Json, Networks, refused_with

MASK = "255.255.255.0"


def test_a_cidr_leaves_out_network_broadcast_and_gateway(networks: Networks) -> None:
    made = networks.range(networks.l3(), cidr="10.0.0.0/24")
    assert (made["start_ip"], made["end_ip"], made["gateway"]) == ("10.0.0.2", "10.0.0.254", "10.0.0.1")
    assert (made["netmask"], made["cidr"], made["size"]) == (MASK, "10.0.0.0/24", 253)
    assert made["name"] == "10.0.0.2-10.0.0.254"


def test_bounds_say_exactly_which_addresses(networks: Networks) -> None:
    fields = {"start_ip": "10.0.0.10", "end_ip": "10.0.0.19", "gateway": "10.0.0.1", "netmask": MASK}
    made = networks.range(networks.l3(), name="ten", **fields)
    assert {name: made[name] for name in fields} == fields
    assert (made["name"], made["cidr"], made["size"]) == ("ten", "10.0.0.0/24", 10)


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (BAD_RANGE, {}),
        (BAD_RANGE, {"cidr": "10.0.0.0/24", "start_ip": "10.0.0.5"}),
        (BAD_RANGE, {"start_ip": "10.0.0.5", "end_ip": "10.0.0.9"}),
        (BAD_RANGE, {"start_ip": "10.0.0.9", "end_ip": "10.0.0.5", "netmask": MASK}),
        (BAD_RANGE, {"start_ip": "10.0.0.9", "end_ip": "10.0.1.5", "netmask": MASK}),
        (BAD_RANGE, {"start_ip": "10.0.0.9", "end_ip": "10.0.0.15", "netmask": "255.0.255.0"}),
        (BAD_GATEWAY, {"start_ip": "10.0.0.5", "end_ip": "10.0.0.9", "netmask": MASK, "gateway": "10.0.0.7"}),
        (BAD_GATEWAY, {"start_ip": "10.0.0.5", "end_ip": "10.0.0.9", "netmask": MASK, "gateway": "10.0.1.1"}),
        (BAD_GATEWAY, {"cidr": "10.0.0.0/24", "gateway": "10.0.0.77"}),
        (RANGE_TOO_LARGE, {"cidr": "10.0.0.0/8"}),
        (RANGE_RESERVED, {"cidr": "169.254.0.0/16"}),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(networks: Networks, code: ErrorCode, fields: Json) -> None:
    net = networks.l3()
    assert refused_with(code, lambda: networks.range(net, **fields)).status in (400, 422)


def test_ranges_of_one_network_do_not_overlap(networks: Networks) -> None:
    net = networks.l3("10.0.0.0/24")
    again = {"start_ip": "10.0.0.200", "end_ip": "10.0.0.210", "gateway": "10.0.0.1", "netmask": MASK}
    assert refused_with(RANGE_OVERLAP, lambda: networks.range(net, **again)).status == 409


def test_networks_on_one_wire_share_its_addresses_and_others_have_their_own(networks: Networks) -> None:
    wire = networks.l2()
    networks.l3("10.0.0.0/24", l2_network_uuid=wire["uuid"])
    beside = networks.l3(l2_network_uuid=wire["uuid"])
    refused_with(RANGE_OVERLAP, lambda: networks.range(beside, cidr="10.0.0.0/25"))
    networks.range(beside, cidr="10.0.1.0/24")
    networks.l3("10.0.0.0/24")
    networks.l3("10.0.0.0/24", l2_network_uuid=networks.l2()["uuid"])


def test_a_gateway_of_the_wire_is_not_handed_out(networks: Networks) -> None:
    wire = networks.l2()
    networks.l3("10.0.0.0/29", l2_network_uuid=wire["uuid"])
    beside = networks.l3(l2_network_uuid=wire["uuid"])
    span = {"start_ip": "10.0.0.1", "end_ip": "10.0.0.1", "netmask": "255.255.255.248"}
    refused_with(RANGE_OVERLAP, lambda: networks.range(beside, **span))


def test_ranges_of_one_subnet_agree_on_its_gateway_and_size(networks: Networks) -> None:
    net = networks.l3()
    first = {"start_ip": "10.0.0.10", "end_ip": "10.0.0.19", "gateway": "10.0.0.1", "netmask": MASK}
    networks.range(net, **first)
    second = {"start_ip": "10.0.0.30", "end_ip": "10.0.0.39"} | {"netmask": MASK, "gateway": "10.0.0.1"}
    for wrong in ({"gateway": "10.0.0.2"}, {"gateway": None}, {"netmask": "255.255.255.128"}):
        refused_with(SUBNET_MISMATCH, lambda wrong=wrong: networks.range(net, **(second | wrong)))
    networks.range(net, **second)
    networks.range(net, cidr="10.9.0.0/24")


def test_of_overlapping_ranges_asked_for_at_once_one_is_made(cloud: Cloud, networks: Networks) -> None:
    wire = networks.l2()["uuid"]
    nets = [networks.l3(name=f"n{n}", l2_network_uuid=wire) for n in range(6)]

    async def make(net: Json, node: ManagementNode) -> JobState:
        jobs = node.parts.context.jobs
        job = await jobs.accept(CreateIpRange(l3_network_uuid=net["uuid"], cidr="10.0.0.0/24"), SYSTEM)
        ended = await jobs.wait(job.uuid, 30)
        assert ended.error is None or ended.error.code == RANGE_OVERLAP.id
        return ended.state

    ended = cloud.at_once(partial(make, net) for net in nets)
    assert ended.count(JobState.SUCCEEDED) == 1
    assert len(networks.cloud.list("ip-ranges")) == 1


def test_a_patch_renames(networks: Networks) -> None:
    made = networks.range(networks.l3(), cidr="10.0.0.0/24")
    changed = networks.cloud.update("ip-ranges", made["uuid"], name="office", description="desks")
    assert (changed["name"], changed["description"], changed["size"]) == ("office", "desks", 253)


def test_a_deletion_is_refused_while_nics_have_addresses_of_it_unless_forced(networks: Networks) -> None:
    net, vm = networks.l3(), networks.vm()
    one, two = networks.range(net, cidr="10.0.0.0/29"), networks.range(net, cidr="10.0.1.0/29")
    networks.nic(net, vm, ip="10.0.0.4")
    kept = networks.nic(net, vm, ip="10.0.1.4", device_index=1)
    refused_with(NETWORK_IN_USE, lambda: networks.cloud.delete("ip-ranges", one["uuid"]))
    networks.cloud.delete("ip-ranges", one["uuid"], force=True)
    assert networks.cloud.gone("ip-ranges", one["uuid"])
    assert networks.nics(vm) == [kept]
    assert networks.usage(net) == {"total": 5, "used": 1, "quarantined": 0, "free": 4}
    assert [r["uuid"] for r in networks.cloud.list("ip-ranges")] == [two["uuid"]]


def test_a_deleted_range_can_be_added_again(networks: Networks) -> None:
    net = networks.l3()
    networks.cloud.delete("ip-ranges", networks.range(net, cidr="10.0.0.0/29")["uuid"])
    assert networks.usage(net)["total"] == 0
    networks.range(net, cidr="10.0.0.0/29")
