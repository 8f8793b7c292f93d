"""Freeing hosts: for maintenance, and because they, their cluster or their zone are deleted."""

from __future__ import annotations

import pytest

from mgmtnode.testing.cloud import Refused
from tests.services.vm.site import GIB, Row, Site


def maintain(site: Site, host: int = 0) -> Row:
    return site.run("POST", f"/hosts/{site.host(host)}/actions/maintain", {})


def test_the_vms_of_a_host_in_maintenance_are_moved_so_many_at_a_time(site: Site) -> None:
    site.config("simulator.migration_ms", 60)
    vms = [site.vm(host=0, l3_network_uuids=[]) for _ in range(4)]
    for place, quantity in ((site.cluster, 1), (site.host(0), 4)):
        site.override(place, "vm.migration_quantity", quantity)
        assert maintain(site)["state"] == "Succeeded"
        assert {site.get(vm)["host_uuid"] for vm in vms} == {site.host(1)}
        assert _most_at_once(site) == quantity
        site.books().check()
        assert site.books().drift() == []
        site.cloud.act("hosts", site.host(0), "enable")
        for vm in vms:
            site.act(vm, "migrate", host_uuid=site.host(0))


def _most_at_once(site: Site) -> int:
    parent = site.cloud.list("jobs", "api=host.maintain", sort="-accepted_at")[0]["uuid"]
    moves = site.cloud.list("jobs", f"parent_uuid={parent}")
    begins, ends = sorted(m["started_at"] for m in moves), sorted(m["ended_at"] for m in moves)
    return max(sum(b <= moment for b in begins) - sum(e <= moment for e in ends) for moment in begins)


def test_what_cannot_be_moved_is_stopped_or_keeps_the_host_out_of_maintenance(site: Site) -> None:
    large, small = site.vm(host=0, memory=6 * GIB), site.vm(host=0)
    site.vm(host=1, memory=4 * GIB)
    site.config("vm.maintenance_policy", "JustMigrate")
    job = maintain(site)
    assert (job["state"], job["error"]["code"]) == ("Failed", "vm.migration-failed")
    assert job["error"]["details"]["vms"] == [large["uuid"]]
    assert site.cloud.get("hosts", site.host(0))["state"] == "Enabled"
    assert site.get(small)["host_uuid"] == site.host(1)
    site.config("vm.maintenance_policy", "StopVmOnMigrationFailure")
    assert maintain(site)["state"] == "Succeeded"
    assert site.state(large) == "Stopped"
    site.books().check()
    assert site.books().drift() == []


def test_nothing_is_placed_on_a_host_in_maintenance_and_a_stopped_vm_starts_elsewhere(site: Site) -> None:
    vm = site.vm(host=0)
    site.act(vm, "stop")
    maintain(site)
    assert site.act(vm, "start")["host_uuid"] == site.host(1)
    with pytest.raises(Refused) as refused:
        site.vm(host=0)
    assert refused.value.code == "allocator.no-host"


def test_a_crashed_vm_is_stopped_and_an_unknown_one_keeps_the_host_out_of_maintenance(site: Site) -> None:
    vm = site.vm(host=0)
    site.fault(0, "crash-vm", vm_uuid=vm["uuid"])
    site.ping(0)
    site.config("vm.maintenance_policy", "JustMigrate")
    assert maintain(site)["state"] == "Succeeded"
    assert site.state(vm) == "Stopped"
    site.cloud.act("hosts", site.host(0), "enable")
    site.act(vm, "start", host_uuid=site.host(0))
    site.fault(0, "disconnect")
    site.cloud.until(lambda: site.ping(0) or site.state(vm) == "Unknown")
    site.config("vm.maintenance_policy", "StopVmOnMigrationFailure")
    job = maintain(site)
    assert (job["state"], job["error"]["details"]["vms"]) == ("Failed", [vm["uuid"]])


def test_a_vm_on_its_way_to_a_host_that_enters_maintenance_leaves_it_again(site: Site) -> None:
    site.config("simulator.command_seconds", 60)
    vm = site.vm(host=0)
    site.fault(0, "hang", "migrate", times=1)
    move = site.submit("POST", f"/vms/{vm['uuid']}/actions/migrate", {"host_uuid": site.host(1)})
    site.cloud.until(lambda: site.cloud.get("jobs", move["uuid"])["step"] == "move")
    job = site.submit("POST", f"/hosts/{site.host(1)}/actions/maintain", {})
    site.cloud.until(lambda: site.cloud.list("jobs", "api=vm.move-off"))
    site.heal()
    assert site.ended(move)["state"] == "Succeeded"
    assert site.ended(job)["state"] == "Succeeded"
    assert site.get(vm)["host_uuid"] == site.host(0)
    assert site.books().drift() == []


def test_the_vms_of_a_deleted_host_are_stopped_and_start_elsewhere(site: Site) -> None:
    vm = site.vm(host=0)
    gone = site.hosts.pop(0)
    site.cloud.delete("hosts", gone["uuid"])
    found = site.get(vm)
    assert (found["state"], found["host_uuid"], found["last_host_uuid"]) == ("Stopped", None, None)
    assert site.act(vm, "start")["host_uuid"] == site.host(0)
    site.books().check()


def test_a_silent_host_is_deleted_only_by_force(site: Site) -> None:
    vm = site.vm(host=0)
    site.fault(0, "disconnect")
    with pytest.raises(Refused) as refused:
        site.cloud.delete("hosts", site.host(0))
    assert refused.value.code == "core.in-use"
    assert site.get(vm)["host_uuid"] == site.host(0)
    gone = site.hosts.pop(0)
    site.cloud.delete("hosts", gone["uuid"], force=True)
    assert site.state(vm) == "Stopped"
    books = site.books()
    books.check()
    assert (books.debts, books.kept_back) == ([], [])


def test_a_deleted_cluster_stops_its_vms_and_they_start_in_another(site: Site) -> None:
    vm = site.vm(host=0)
    other = site.cloud.create("clusters", name="other", zone_uuid=site.zone, hypervisor="simulator")["uuid"]
    host = site.add_host(cluster=other)
    site.cloud.delete("clusters", site.cluster)
    assert (site.get(vm)["state"], site.get(vm)["cluster_uuid"]) == ("Stopped", None)
    assert site.act(vm, "start")["host_uuid"] == host["uuid"]
    site.books().check()


def test_a_deleted_zone_takes_its_vms_along_unless_a_host_is_silent_and_nobody_insists(site: Site) -> None:
    running, stopped = site.vm(host=0), site.vm(start=False, zone_uuid=site.zone)
    site.fault(0, "disconnect")
    with pytest.raises(Refused) as refused:
        site.cloud.delete("zones", site.zone)
    assert refused.value.code == "core.in-use"
    assert not site.cloud.gone("vms", running["uuid"])
    site.cloud.delete("zones", site.zone, force=True)
    assert all(site.cloud.gone("vms", vm["uuid"]) for vm in (running, stopped))
    assert site.cloud.list("hosts") == []
    left = site.books().quiet()
    assert (left.vms, left.nics, left.held, left.kept_back, left.pools, left.debts) == (
        [],
        [],
        [],
        [],
        [],
        [],
    )
