"""Placement: why a host is refused, which of several is taken, and that none ever gets more than it has."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from mgmtnode.db.session import Tx
from mgmtnode.testing.cloud import Refused
from services.allocator.service import AllocatorService
from tests.services.vm.site import GIB, Row, Site


def reports(site: Site, **fields: Any) -> dict[str, tuple[int, int, str]]:
    """What each filter did to a create that is refused: (before, after, reason)."""
    job = site.run("POST", "/vms", {"name": "vm", "cpu": 1, "memory": GIB} | fields)
    error = job["error"]
    assert (error["code"], error["category"]) == ("allocator.no-host", "NO_CAPACITY"), error
    found = error["details"]["filters"]
    for earlier, later in pairwise(found):
        assert earlier["after"] == later["before"]
    return {r["filter"]: (r["before"], r["after"], r.get("reason", "")) for r in found}


def capacity(site: Site, **place: str) -> Row:
    return dict(site.cloud.call("GET", "/capacity", None, **place))


def placed(site: Site, **fields: Any) -> int:
    """The index of the host that a VM came to."""
    vm = site.vm(**{"l3_network_uuids": []} | fields)
    return [host["uuid"] for host in site.hosts].index(vm["host_uuid"])


def offering(site: Site, strategy: str, memory: int = GIB) -> str:
    made = site.cloud.create(
        "instance-offerings", name=f"{strategy} {memory}", cpu=1, memory=memory, allocator_strategy=strategy
    )
    return str(made["uuid"])


def test_each_filter_says_how_many_hosts_it_left_and_why(site: Site) -> None:
    west = site.cloud.create("zones", name="west")["uuid"]
    empty = site.cloud.create("clusters", name="empty", zone_uuid=site.zone, hypervisor="simulator")["uuid"]
    assert reports(site, zone_uuid=west)["zone"] == (2, 0, "2 dropped: they are in other zones")
    assert reports(site, cluster_uuid=empty)["cluster"][:2] == (2, 0)
    assert reports(site, cpu=4000)["host size"] == (2, 0, "2 dropped: they have less than 4000 threads")
    ratio = "/global-configs/allocator.cpu_overprovisioning"
    before = capacity(site)["cpu_free"]
    site.cloud.call("PATCH", ratio, {"value": 0.1})
    site.cloud.until(lambda: capacity(site)["cpu_free"] == 0)
    assert reports(site, cpu=4)["cpu"] == (2, 0, "2 dropped: they have less than 4 virtual CPUs left")
    site.cloud.call("POST", f"{ratio}/actions/reset", {})
    site.cloud.until(lambda: capacity(site)["cpu_free"] == before)
    assert reports(site, memory=9 * GIB)["memory"] == (
        2,
        0,
        "2 dropped: they have less than 9.00 GiB of memory left",
    )
    site.cloud.act("hosts", site.host(0), "disable")
    site.fault(1, "disconnect")
    site.cloud.until(
        lambda: site.ping(1) or site.cloud.get("hosts", site.host(1))["status"] == "Disconnected"
    )
    found = reports(site)
    assert (found["state"][:2], found["status"][:2]) == ((2, 1), (1, 0))
    assert reports(site, host_uuid=site.host(0))["host"] == (2, 1, "1 dropped: another host was asked for")


def test_nothing_is_placed_where_the_host_its_cluster_or_its_zone_is_closed(site: Site) -> None:
    for plural, uuid, close, reopen in (
        ("hosts", site.host(0), "disable", "enable"),
        ("hosts", site.host(0), "maintain", "enable"),
        ("clusters", site.cluster, "disable", "enable"),
        ("zones", site.zone, "disable", "enable"),
    ):
        free = capacity(site, host_uuid=site.host(0))["memory_free"]
        site.cloud.act(plural, uuid, close)
        assert capacity(site, host_uuid=site.host(0))["memory_free"] == 0
        reports(site, host_uuid=site.host(0))
        site.cloud.act(plural, uuid, reopen)
        assert capacity(site, host_uuid=site.host(0))["memory_free"] >= free  # VMs may have left
        assert placed(site, host=0) == 0
    site.fault(0, "disconnect")
    site.cloud.until(
        lambda: site.ping(0) or site.cloud.get("hosts", site.host(0))["status"] == "Disconnected"
    )
    assert reports(site, host_uuid=site.host(0))["status"][:2] == (1, 0)
    site.heal()
    site.cloud.until(lambda: site.ping(0) or site.cloud.get("hosts", site.host(0))["status"] == "Connected")
    assert placed(site, host=0) == 0


def test_a_host_that_comes_to_a_closed_cluster_takes_nothing_until_that_opens(site: Site) -> None:
    site.cloud.act("clusters", site.cluster, "disable")
    site.add_host()
    assert capacity(site, host_uuid=site.host(2))["memory_free"] == 0
    site.cloud.act("clusters", site.cluster, "enable")
    assert placed(site, host=2) == 2


def test_the_strategies_order_the_hosts(site: Site) -> None:
    least, packed, random = (offering(site, s) for s in ("LeastVmPreferred", "Packed", "Random"))
    assert [placed(site, host=0, memory=2 * GIB), placed(site, instance_offering_uuid=least)] == [0, 1]
    assert [placed(site, instance_offering_uuid=packed) for _ in range(3)] == [0, 0, 0]
    assert placed(site, instance_offering_uuid=offering(site, "Packed", 6 * GIB)) == 1
    assert placed(site, instance_offering_uuid=random) in (0, 1)


def test_a_vm_starts_where_it_ran_last_if_it_can(site: Site) -> None:
    vm = site.vm(host=1)
    for _ in range(3):
        site.act(vm, "stop")
        assert site.act(vm, "start")["host_uuid"] == site.host(1)
    site.act(vm, "stop")
    site.cloud.act("hosts", site.host(1), "disable")
    assert site.act(vm, "start")["host_uuid"] == site.host(0)


def test_an_unknown_strategy_is_refused_by_name(site: Site) -> None:
    site.config("allocator.strategy", "Sideways")
    job = site.run("POST", "/vms", {"name": "vm", "cpu": 1, "memory": GIB})
    assert (job["error"]["code"], "Packed" in job["error"]["message"]) == ("allocator.strategy-unknown", True)
    site.books().check()


def test_what_is_kept_from_vms_and_how_far_the_rest_is_stretched_is_recalculated_at_once(site: Site) -> None:
    host, other = site.host(0), site.host(1)
    assert capacity(site, host_uuid=host) == {
        "cpu_total": 80,
        "cpu_used": 0,
        "cpu_free": 80,
        "memory_total": 8 * GIB,
        "memory_reserved": 0,
        "memory_used": 0,
        "memory_free": 8 * GIB,
        "hosts": 1,
    }

    def becomes(uuid: str, **wanted: int) -> None:
        site.cloud.until(lambda: wanted.items() <= capacity(site, host_uuid=uuid).items())

    site.config("allocator.reserved_memory", GIB)
    becomes(host, memory_total=7 * GIB, memory_reserved=GIB)
    site.override(site.zone, "allocator.reserved_memory", 2 * GIB)
    becomes(host, memory_total=6 * GIB)
    site.override(site.cluster, "allocator.memory_overprovisioning", 2.0)
    becomes(host, memory_total=12 * GIB)
    site.override(host, "allocator.reserved_memory", 4 * GIB)
    becomes(host, memory_total=8 * GIB, memory_reserved=4 * GIB)
    becomes(other, memory_total=12 * GIB, memory_reserved=2 * GIB)
    site.override(host, "allocator.reserved_cpu", 4)
    site.override(host, "allocator.cpu_overprovisioning", 2.0)
    becomes(host, cpu_total=8)
    path = f"/resources/{host}/configs/actions/reset"
    site.cloud.call("POST", path, {"name": "allocator.reserved_memory"})
    becomes(host, memory_total=12 * GIB)
    reports(site, host_uuid=host, cpu=9)
    assert placed(site, host=0, cpu=8, memory=8 * GIB) == 0


def test_a_change_that_nobody_heard_of_counts_for_all_hosts_in_the_end(site: Site) -> None:
    def unheard(tx: Tx) -> None:
        site.cloud.nodes[0].node.parts.context.config.set(tx, "allocator.reserved_memory", GIB)

    site.cloud.write(unheard)
    for thread in site.cloud.nodes:
        context = thread.node.parts.context
        thread.run(context.config.refresh(context.db))
    assert capacity(site)["memory_total"] == 16 * GIB
    site.cloud.everywhere(AllocatorService, lambda allocator: allocator.reconcile())
    assert capacity(site)["memory_total"] == 14 * GIB


def test_a_host_that_shrinks_below_what_it_runs_takes_no_more_until_there_is_room(site: Site) -> None:
    vm = site.vm(host=0, memory=6 * GIB)
    site.config("allocator.reserved_memory", 4 * GIB)
    site.cloud.until(lambda: capacity(site, host_uuid=site.host(0))["memory_total"] == 4 * GIB)
    found = capacity(site, host_uuid=site.host(0))
    assert (found["memory_used"], found["memory_free"]) == (6 * GIB, 0)
    assert capacity(site)["memory_free"] == 4 * GIB
    reports(site, host_uuid=site.host(0))
    site.cloud.delete("vms", vm["uuid"])
    assert placed(site, host=0, memory=4 * GIB) == 0
    site.books().check()


def test_the_capacity_of_a_place_is_the_sum_over_its_hosts(site: Site) -> None:
    west = site.cloud.create("zones", name="west")["uuid"]
    far = site.cloud.create("clusters", name="far", zone_uuid=west, hypervisor="simulator")["uuid"]
    site.add_host(cluster=far, cpu=4, memory=2 * GIB)
    site.vm(host=0)
    assert (capacity(site)["hosts"], capacity(site)["memory_total"]) == (3, 18 * GIB)
    assert capacity(site, zone_uuid=site.zone)["memory_free"] == 15 * GIB
    assert capacity(site, cluster_uuid=far)["cpu_total"] == 40
    with pytest.raises(Refused) as refused:
        site.cloud.tenant().call("GET", "/capacity")
    assert refused.value.status == 403
    gone = site.hosts.pop()
    site.cloud.delete("hosts", gone["uuid"])
    assert capacity(site)["hosts"] == 2


def test_two_hundred_creates_at_once_never_get_more_than_there_is(site: Site) -> None:
    body = {"name": "vm", "cpu": 1, "memory": GIB // 4}
    jobs = [site.submit("POST", "/vms", body) for _ in range(200)]
    states = sorted(site.ended(job)["state"] for job in jobs)
    assert states == ["Failed"] * 136 + ["Succeeded"] * 64  # two hosts of 8 GiB
    for host in site.hosts:
        found = capacity(site, host_uuid=host["uuid"])
        assert (found["memory_used"], found["memory_free"]) == (8 * GIB, 0)
    site.books().check()
    assert site.books().drift() == []
