"""The end of VMs: destroyed, recovered, expunged, each as the policy says."""

from __future__ import annotations

from tests.services.vm.site import Row, Site


def expunge(site: Site) -> None:
    """Has destroyed VMs looked through, as happens now and then."""
    from services.vm.expunge import Expunger
    from services.vm.service import VmService

    site.cloud.everywhere(VmService, lambda vm: Expunger(vm.node, vm.vms).look_through())
    site.quiet()


def destroyed(site: Site) -> Row:
    vm = site.vm(host=0)
    site.cloud.delete("vms", vm["uuid"])
    return vm


def test_a_destroyed_vm_gives_its_host_back_and_keeps_its_addresses(site: Site) -> None:
    vm = destroyed(site)
    found = site.get(vm)
    assert (found["state"], found["host_uuid"], found["nics"]) == ("Destroyed", None, vm["nics"])
    assert found["destroyed_at"]
    site.books().check()
    assert site.books().on_hosts == []
    site.cloud.delete("vms", vm["uuid"])  # again is success
    recovered = site.act(vm, "recover")
    assert (recovered["state"], recovered["destroyed_at"]) == ("Stopped", None)
    assert site.act(vm, "start")["nics"] == vm["nics"]


def test_an_expunged_vm_is_gone_with_all_it_held(site: Site) -> None:
    before = site.books().quiet()
    vm = destroyed(site)
    site.act(vm, "expunge")
    assert site.cloud.gone("vms", vm["uuid"])
    assert site.books().quiet() == before


def test_a_vm_is_destroyed_for_good_at_once_by_force_or_by_policy(site: Site) -> None:
    before = site.books().quiet()
    vm = site.vm(host=0, user_tags=["blue"])
    site.cloud.delete("vms", vm["uuid"], force=True)
    assert site.cloud.gone("vms", vm["uuid"])
    vm = destroyed(site)
    site.cloud.delete("vms", vm["uuid"], force=True)
    assert site.cloud.gone("vms", vm["uuid"])
    site.config("vm.deletion_policy", "Direct")
    assert site.cloud.gone("vms", destroyed(site)["uuid"])
    assert site.books().quiet() == before


def test_destroyed_vms_are_expunged_after_the_period_unless_never(site: Site) -> None:
    vms = [destroyed(site) for _ in range(3)]
    recovered = destroyed(site)
    site.act(recovered, "recover")
    expunge(site)
    assert all(site.state(vm) == "Destroyed" for vm in vms)
    site.config("vm.expunge_period", 0)
    site.config("vm.deletion_policy", "Never")
    expunge(site)
    assert all(site.state(vm) == "Destroyed" for vm in vms)
    site.config("vm.deletion_policy", "Delay")
    expunge(site)
    assert all(site.cloud.gone("vms", vm["uuid"]) for vm in vms)
    assert site.state(recovered) == "Stopped"
    site.books().check()
