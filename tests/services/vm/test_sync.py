"""What hosts report is taken over, unless something newer is known."""

from __future__ import annotations

from mgmtnode.contracts.vm_sync import ObserveVm
from services.host.service import HostService
from services.simulator.host import SimulatedHost
from tests.machines import on_machine
from tests.services.vm.site import GIB, Row, Site

STRANGER = "00000000-0000-7000-8000-00000000beef"


def behind_our_back(site: Site, index: int, vm: str, action: str) -> None:
    """The host's own operator does something to a VM."""
    from mgmtnode.contracts.hypervisor import VmAction, VmCommand, VmSpec
    from services.simulator.vm import CHANGES

    spec = VmSpec(uuid=vm, name="vm", cpu=1, memory=GIB)

    def act(machine: SimulatedHost) -> None:
        changed = CHANGES[VmAction(action)](machine.find(vm), VmCommand(action=VmAction(action), vm=spec))
        machine._put(vm, changed)

    on_machine(site.cloud, site.hosts[index]["management_ip"], act)


def test_what_happens_behind_our_back_is_found_out(site: Site) -> None:
    vm = site.vm(host=0)
    for action, state in (("pause", "Paused"), ("resume", "Running"), ("pause", "Paused")):
        behind_our_back(site, 0, vm["uuid"], action)
        site.ping(0)
        assert site.state(vm) == state
    site.fault(0, "crash-vm", vm_uuid=vm["uuid"])
    site.ping(0)
    assert site.state(vm) == "Crashed"
    assert site.act(vm, "reboot")["state"] == "Running"
    site.books().check()


def test_a_vm_that_is_gone_is_stopped_and_its_capacity_returned(site: Site) -> None:
    vm = site.vm(host=0)
    behind_our_back(site, 0, vm["uuid"], "destroy")
    site.ping(0)
    found = site.get(vm)
    assert (found["state"], found["host_uuid"], found["last_host_uuid"]) == ("Stopped", None, site.host(0))
    site.books().check()
    assert site.cloud.call("GET", "/capacity", None, host_uuid=site.host(0))["memory_used"] == 0


def test_the_vms_of_a_silent_host_are_unknown_until_it_is_back(site: Site) -> None:
    vm = site.vm(host=0)
    site.fault(0, "disconnect")
    site.cloud.until(lambda: site.ping(0) or site.state(vm) == "Unknown")
    assert site.get(vm)["host_uuid"] == site.host(0)
    site.books().check()
    site.heal()
    site.cloud.until(lambda: site.ping(0) or site.state(vm) == "Running")
    assert site.books().drift() == []


def test_a_stopped_vm_that_runs_is_taken_over_with_its_capacity(site: Site) -> None:
    vm = site.vm(start=False, l3_network_uuids=[])
    behind_our_back(site, 1, vm["uuid"], "start")
    site.ping(1)
    found = site.get(vm)
    assert (found["state"], found["host_uuid"], found["cluster_uuid"]) == (
        "Running",
        site.host(1),
        site.cluster,
    )
    site.books().check()


def test_a_stranger_is_told_of_once_and_again_after_it_was_gone(site: Site) -> None:
    def told() -> int:
        return site.events(site.host(0)).count("host.stranger-vm")

    behind_our_back(site, 0, STRANGER, "start")
    site.ping(0)
    site.ping(0)
    assert told() == 1
    behind_our_back(site, 0, STRANGER, "destroy")
    site.ping(0)
    behind_our_back(site, 0, STRANGER, "start")
    site.ping(0)
    assert told() == 2
    assert len(site.books().on_hosts) == 1


def test_a_stranger_is_destroyed_where_that_is_the_policy(site: Site) -> None:
    site.config("vm.stranger_policy", "Destroy")
    vm, kept = site.vm(host=0), site.vm(host=0)
    destroyed = site.vm(start=False)
    site.cloud.delete("vms", destroyed["uuid"])
    for uuid in (STRANGER, destroyed["uuid"]):
        behind_our_back(site, 0, uuid, "start")
    behind_our_back(site, 1, vm["uuid"], "start")  # a second copy of one that lives elsewhere is only told of
    site.ping()
    assert sorted(row[1] for row in site.books().on_hosts) == sorted([vm["uuid"], vm["uuid"], kept["uuid"]])
    assert site.events(site.host(1)).count("host.stranger-vm") == 1


def test_an_observation_that_is_older_than_the_last_change_is_ignored(site: Site) -> None:
    vm = site.vm(host=0)
    revision = len(site.events(vm["uuid"]))

    def observe(revision: int) -> str:
        message = ObserveVm(uuid=vm["uuid"], host_uuid=site.host(0), revision=revision, power="Paused")
        site.cloud.run_job(message)
        return site.state(vm)

    assert observe(revision - 1) == "Running"
    assert observe(revision) == "Paused"


def test_a_report_that_was_overtaken_changes_nothing(site: Site) -> None:
    """However long it took, and whatever the clocks of the nodes say."""
    stays, leaves = site.vm(host=0), site.vm(host=0)
    owner = site.cloud.owner_of(site.host(0))
    service = owner.service(HostService)
    record = owner.run(service.known.read(site.host(0)))
    overtaken = owner.run(service.drivers.report(record))
    comes = site.vm(host=0)
    site.act(leaves, "stop")
    owner.run(service.reports.tell(record, overtaken))
    site.quiet()
    assert [site.state(vm) for vm in (stays, leaves, comes)] == ["Running", "Stopped", "Running"]
    assert site.cloud.list("jobs", "api=vm.observe") == []
    assert "host.stranger-vm" not in site.events(site.host(0))
    site.books().check()


def test_a_vm_whose_host_is_gone_for_good_is_stopped_by_an_operator_and_destroyed_if_it_comes_back(
    site: Site,
) -> None:
    vm = site.vm(host=0)
    site.fault(0, "disconnect")
    assert site.do(vm, "stop")["state"] == "Failed"
    assert site.act(vm, "stop", settle=True)["state"] == "Stopped"
    started = site.act(vm, "start", host_uuid=site.host(1))
    assert started["host_uuid"] == site.host(1)
    assert len(site.books().debts) == 1
    site.heal()
    site.ping()
    site.settle()
    assert site.books().drift() == []
    site.books().check()


def test_only_an_operator_may_say_that_a_host_is_gone(site: Site) -> None:
    tenant = site.cloud.tenant()
    vm: Row = tenant.create("vms", name="vm", cpu=1, memory=GIB)
    path = f"/vms/{vm['uuid']}"
    assert tenant.request("POST", f"{path}/actions/stop", {"settle": True}).status_code == 403
    assert tenant.request("DELETE", path, None, settle="true").status_code == 403
