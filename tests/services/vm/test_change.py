"""Changing the size and the NICs of VMs."""

from __future__ import annotations

import time

from sqlalchemy import update

from mgmtnode.contracts.vm import VmState
from services.vm import models
from tests.services.vm.site import GIB, Row, Site


def failed(site: Site, vm: Row, action: str, **fields: object) -> str:
    """The code of an action that fails and changes nothing."""
    before = site.books().quiet()
    job = site.do(vm, action, **fields)
    assert job["state"] == "Failed", job
    assert site.books().quiet() == before
    assert site.books().drift() == []
    return str(job["error"]["code"])


def test_a_vm_grows_and_shrinks_stopped_or_running(site: Site) -> None:
    offering = site.cloud.create("instance-offerings", name="large", cpu=4, memory=4 * GIB)["uuid"]
    for vm in (site.vm(host=0), site.vm(start=False)):
        for size in ({"cpu": 2, "memory": 3 * GIB}, {"cpu": 3, "memory": 2 * GIB}, {"cpu": 1, "memory": GIB}):
            changed = site.act(vm, "change-offering", **size)
            assert {name: changed[name] for name in size} == size
            site.books().check()
            assert site.books().drift() == []
        changed = site.act(vm, "change-offering", instance_offering_uuid=offering)
        assert (changed["cpu"], changed["instance_offering_uuid"]) == (4, offering)
        assert site.act(vm, "change-offering", cpu=1, memory=GIB)["instance_offering_uuid"] is None


def test_a_vm_does_not_grow_beyond_its_host_and_may_be_started_elsewhere(site: Site) -> None:
    vm = site.vm(host=0)
    site.vm(host=0, memory=5 * GIB)
    assert failed(site, vm, "change-offering", cpu=1, memory=4 * GIB) == "allocator.no-host"
    site.act(vm, "stop")
    site.act(vm, "change-offering", cpu=1, memory=4 * GIB)
    assert site.act(vm, "start")["host_uuid"] == site.host(1)


def test_a_size_must_be_said_once(site: Site) -> None:
    vm = site.vm(host=0)
    for fields in ({}, {"cpu": 2}, {"memory": GIB}):
        assert site.refused(vm, "change-offering", **fields).code == "vm.no-size"


def test_a_vm_shrinks_on_a_host_that_is_over_its_limit(site: Site) -> None:
    vm = site.vm(host=0, cpu=2, memory=4 * GIB)
    site.config("allocator.reserved_memory", 7 * GIB)
    site.cloud.until(lambda: site.cloud.call("GET", "/capacity")["memory_total"] == 2 * GIB)
    assert site.act(vm, "change-offering", cpu=2, memory=2 * GIB)["memory"] == 2 * GIB
    site.books().check()
    assert failed(site, vm, "change-offering", cpu=2, memory=3 * GIB) == "allocator.no-host"


def test_a_failed_shrink_holds_what_was_held_even_if_the_limit_fell(site: Site) -> None:
    vm = site.vm(host=0, memory=4 * GIB)
    site.config("allocator.reserved_memory", 7 * GIB)
    site.cloud.until(lambda: site.cloud.call("GET", "/capacity")["memory_total"] == 2 * GIB)
    site.fault(0, "fail", "resize", times=1)
    assert failed(site, vm, "change-offering", cpu=1, memory=3 * GIB) == "hypervisor.failed"
    site.books().check()


def test_a_vm_that_is_gone_from_its_host_has_nothing_to_take_back(site: Site) -> None:
    """Else the job would try to, for two minutes, and what the host reports would not be taken over before."""
    site.config("host.ping_interval", 3600)
    vm = site.vm(host=0)
    host = site.get(vm)["host_uuid"]
    site.act(vm, "stop")
    there = {"state": VmState.RUNNING, "host_uuid": host}
    site.cloud.write(
        lambda tx: tx.execute(update(models.vm).where(models.vm.c.uuid == vm["uuid"]).values(there))
    )
    changes = {"change-offering": {"cpu": 2, "memory": GIB}, "attach-nic": {"l3_network_uuid": site.network}}
    for action, fields in changes.items():
        began = time.monotonic()
        job = site.do(vm, action, **fields)
        assert job["state"] == "Failed" and job["error"]["code"] == "hypervisor.no-vm", job
        assert time.monotonic() - began < 60, "it was tried to take back what was never done"


def test_where_nobody_knows_the_size_the_larger_one_is_recorded(site: Site) -> None:
    vm = site.vm(host=0, cpu=1, memory=4 * GIB)
    site.fault(0, "lose-reply", "resize")
    assert site.do(vm, "change-offering", cpu=4, memory=GIB)["state"] == "Failed"
    found = site.get(vm)
    assert (found["cpu"], found["memory"], found["state"]) in (
        (4, 4 * GIB, "Running"),
        (1, 4 * GIB, "Running"),
    )
    site.books().check()


def test_nics_come_and_go_running_or_stopped(site: Site) -> None:
    other = site.add_network("10.1.0.0/24")
    for vm in (site.vm(host=0), site.vm(start=False)):
        nics = site.act(vm, "attach-nic", l3_network_uuid=other)["nics"]
        assert [nic["l3_network_uuid"] for nic in nics] == [site.network, other]
        assert site.books().drift() == []
        left = site.act(vm, "detach-nic", nic_uuid=nics[0]["uuid"])["nics"]
        assert [nic["uuid"] for nic in left] == [nics[1]["uuid"]]
        site.books().check()
        assert site.books().drift() == []
        again = site.act(
            vm, "attach-nic", l3_network_uuid=site.network, ip=f"10.0.0.{40 + (vm['host_uuid'] is None)}"
        )
        assert sorted(n["device_index"] for n in site.cloud.list("nics", f"vm_uuid={vm['uuid']}")) == [0, 1]
        assert len(again["nics"]) == 2


def test_a_vm_has_at_most_eight_nics(site: Site) -> None:
    vm = site.vm(host=0, l3_network_uuids=[site.network] * 8)
    assert failed(site, vm, "attach-nic", l3_network_uuid=site.network) == "vm.too-many-nics"
    site.books().check()


def test_an_address_that_is_taken_or_foreign_is_refused(site: Site) -> None:
    vm = site.vm(host=0)
    taken = vm["nics"][0]["ip"]
    assert failed(site, vm, "attach-nic", l3_network_uuid=site.network, ip=taken) == "network.address-taken"
    foreign = failed(site, vm, "attach-nic", l3_network_uuid=site.network, ip="192.0.2.9")
    assert foreign == "network.address-foreign"


def test_the_nic_of_another_vm_cannot_be_detached(site: Site) -> None:
    vm, other = site.vm(host=0), site.vm(host=0)
    assert failed(site, vm, "detach-nic", nic_uuid=other["nics"][0]["uuid"]) == "vm.no-such-nic"
    assert site.refused(vm, "detach-nic", nic_uuid=site.zone).status == 404


def test_a_nic_stays_where_nobody_knows_whether_the_guest_has_it(site: Site) -> None:
    vm = site.vm(host=0)
    site.fault(0, "lose-reply", "attach_nic")
    site.fault(0, "fail", "detach_nic")
    assert site.do(vm, "attach-nic", l3_network_uuid=site.network)["state"] == "Failed"
    nics = site.get(vm)["nics"]
    assert len(nics) == 2
    site.books().check()
    assert site.books().drift() == []
    site.heal()
    assert len(site.act(vm, "detach-nic", nic_uuid=nics[1]["uuid"])["nics"]) == 1
    assert site.books().drift() == []
