"""Moving VMs between hosts."""

from __future__ import annotations

import pytest

from mgmtnode.testing.cloud import Refused
from tests.services.vm.site import GIB, Row, Site


def failed(site: Site, vm: Row, **fields: object) -> str:
    """The code of a migration that fails; the VM stays where it was and all is held as before."""
    before = site.books().quiet()
    job = site.do(vm, "migrate", **fields)
    assert job["state"] == "Failed"
    assert site.books().quiet() == before
    assert site.books().drift() == []
    return str(job["error"]["code"])


def test_a_vm_is_moved_to_the_host_that_was_asked_for_or_to_another_of_its_cluster(site: Site) -> None:
    vm = site.vm(host=0)
    moved = site.act(vm, "migrate", host_uuid=site.host(1))
    assert (moved["host_uuid"], moved["last_host_uuid"], moved["state"]) == (
        site.host(1),
        site.host(0),
        "Running",
    )
    assert site.act(vm, "migrate")["host_uuid"] == site.host(0)
    site.books().check()
    assert site.books().drift() == []
    assert site.events(vm["uuid"]).count("vm.migrated") == 2


def test_a_paused_vm_is_paused_where_it_arrives(site: Site) -> None:
    vm = site.vm(host=0)
    site.act(vm, "pause")
    moved = site.act(vm, "migrate")
    assert (moved["state"], moved["host_uuid"]) == ("Paused", site.host(1))
    assert site.books().drift() == []


def test_a_vm_is_not_moved_to_where_it_is(site: Site) -> None:
    assert failed(site, site.vm(host=0), host_uuid=site.host(0)) == "vm.same-host"


def test_a_vm_stays_where_no_other_host_has_the_room(site: Site) -> None:
    vm = site.vm(host=0, memory=5 * GIB)
    site.vm(host=1, memory=5 * GIB)
    assert failed(site, vm) == "allocator.no-host"
    assert failed(site, vm, host_uuid=site.host(1)) == "allocator.no-host"
    assert site.cloud.call("GET", f"/vms/{vm['uuid']}/migration-candidates")["items"] == []


def test_a_vm_is_not_moved_to_another_zone(site: Site) -> None:
    west = site.cloud.create("zones", name="west")["uuid"]
    far = site.cloud.create("clusters", name="far", zone_uuid=west, hypervisor="simulator")["uuid"]
    site.add_host(cluster=far)
    assert failed(site, site.vm(host=0), host_uuid=site.host(2)) == "allocator.no-host"


def test_the_candidates_are_the_hosts_that_could_take_the_vm(site: Site) -> None:
    site.add_host()
    vm = site.vm(host=0)

    def candidates() -> list[str]:
        found = site.cloud.call("GET", f"/vms/{vm['uuid']}/migration-candidates")["items"]
        return sorted(host["name"] for host in found)

    assert candidates() == ["host-2", "host-3"]
    site.cloud.act("hosts", site.host(1), "disable")
    assert candidates() == ["host-3"]
    site.act(vm, "stop")
    assert candidates() == []
    with pytest.raises(Refused) as refused:
        site.cloud.tenant().call("GET", f"/vms/{vm['uuid']}/migration-candidates")
    assert refused.value.status == 403


def test_a_vm_whose_move_nobody_saw_end_is_found_where_it_is(site: Site) -> None:
    for reply_lost in (True, False):
        vm = site.vm(host=0)
        if reply_lost:  # it happens, and nobody hears of it
            site.fault(0, "lose-reply", "migrate")
        else:
            site.fault(0, "fail", "migrate")
        site.fault(0, "fail", "migrate_back")
        job = site.do(vm, "migrate")
        assert job["state"] == "Failed"
        assert site.state(vm) == "Unknown"
        owed = site.books()
        owed.check()
        assert sorted(host for host, _ in owed.debts) == sorted([site.host(0), site.host(1)])
        site.heal()
        site.ping(0)
        site.ping(1)
        site.settle()
        site.ping()
        found = site.get(vm)
        assert (found["state"], found["host_uuid"]) == ("Running", site.host(1 if reply_lost else 0))
        site.books().check()
        assert site.books().kept_back == []
        assert site.books().drift() == []
        site.cloud.delete("vms", vm["uuid"], force=True)


def test_a_debt_is_not_settled_while_nobody_knows_where_the_vm_is(site: Site) -> None:
    vm = site.vm(host=0)
    site.fault(0, "lose-reply", "migrate")
    site.fault(0, "fail", "migrate_back")
    site.do(vm, "migrate")
    site.heal()
    before = site.books().on_hosts
    site.collect_debts()
    site.quiet()
    assert site.books().on_hosts == before
    assert len(site.books().debts) == 2
