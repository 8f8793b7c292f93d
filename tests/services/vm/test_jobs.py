"""Jobs on VMs: cancelled or overdue in a step, and waiting for their turn."""

from __future__ import annotations

from itertools import pairwise

from tests.services.vm.site import GIB, Row, Site
from tests.services.vm.test_faults import CASES, same


def hangs(site: Site, job: Row, step: str) -> None:
    """Returns once the job is in the step."""
    site.cloud.until(lambda: site.cloud.get("jobs", job["uuid"])["step"] == step)


def test_a_job_that_is_cancelled_in_a_step_is_rolled_back(site: Site) -> None:
    site.config("simulator.command_seconds", 60)
    vm = site.vm(host=0, l3_network_uuids=[])
    stopped = site.vm(start=False, l3_network_uuids=[])
    create = {
        "name": "new",
        "cpu": 1,
        "memory": GIB,
        "l3_network_uuids": [site.network],
        "host_uuid": site.host(0),
    }
    for path, body, action, step in (
        ("/vms", create, "start", "start on the host"),
        (f"/vms/{stopped['uuid']}/actions/start", {"host_uuid": site.host(0)}, "start", "start on the host"),
        (f"/vms/{vm['uuid']}/actions/reboot", {}, "reboot", "reboot on the host"),
        (f"/vms/{vm['uuid']}/actions/migrate", {}, "migrate", "move"),
        (
            f"/vms/{vm['uuid']}/actions/change-offering",
            {"cpu": 2, "memory": GIB},
            "resize",
            "resize on the host",
        ),
    ):
        before = site.books().quiet()
        site.fault(0, "hang", action, times=1)
        job = site.submit("POST", path, body)
        hangs(site, job, step)
        asked = site.submit("POST", f"/jobs/{job['uuid']}/actions/cancel", {})
        assert asked["cancel_requested"]
        site.heal()
        ended = site.ended(job)
        assert (ended["state"], ended["error"]["code"]) == ("Cancelled", "core.cancelled"), action
        assert same(before, site.books()), action
        assert site.books().drift() == [], action


def test_a_job_that_is_not_done_in_time_is_rolled_back(site: Site) -> None:
    site.config("simulator.command_seconds", 60)
    site.config("job.deadline", 1)
    before = site.books().quiet()
    site.fault(0, "hang", "start", times=1)
    create = {"name": "new", "cpu": 1, "memory": GIB, "host_uuid": site.host(0)}
    job = site.submit("POST", "/vms", create)
    site.cloud.until(lambda: site.cloud.get("jobs", job["uuid"])["state"] == "RollingBack")
    site.heal()
    ended = site.ended(job)
    assert (ended["state"], ended["error"]["code"]) == ("Failed", "core.timeout")
    site.settle()
    assert same(before, site.books())


def test_jobs_on_a_vm_wait_for_each_other_in_the_order_they_were_accepted(site: Site) -> None:
    site.config("simulator.command_seconds", 60)
    vm = site.vm(host=0)
    site.fault(0, "hang", "reboot", times=1)
    path = f"/vms/{vm['uuid']}/actions"
    jobs = [
        site.submit("POST", f"{path}/{action}", {})
        for action in ("reboot", "pause", "resume", "stop", "start")
    ]
    hangs(site, jobs[0], "reboot on the host")
    places = [site.cloud.call("GET", f"/jobs/{job['uuid']}")["queue_position"] for job in jobs]
    assert places == [None, 1, 2, 3, 4]
    site.heal()
    ended = [site.ended(job) for job in jobs]
    assert [job["state"] for job in ended] == ["Succeeded"] * 5
    for earlier, later in pairwise(ended):
        assert earlier["ended_at"] <= later["started_at"]
    assert site.state(vm) == "Running"


def test_what_the_state_forbids_once_its_turn_comes_fails_and_changes_nothing(site: Site) -> None:
    site.config("simulator.command_seconds", 60)
    vm = site.vm(host=0)
    site.fault(0, "hang", "stop", times=1)
    path = f"/vms/{vm['uuid']}/actions"
    stop, pause = site.submit("POST", f"{path}/stop", {}), site.submit("POST", f"{path}/pause", {})
    hangs(site, stop, "stop on the host")
    site.heal()
    assert site.ended(stop)["state"] == "Succeeded"
    late = site.ended(pause)
    assert (late["state"], late["error"]["code"]) == ("Failed", "vm.bad-state")
    site.books().check()


def test_a_dry_run_of_any_action_changes_nothing(site: Site) -> None:
    for case in CASES:
        vm = case.arrange(site)
        if not vm:
            continue
        before = site.books()
        if case.name in ("destroy", "expunge"):
            plan = site.cloud.call("DELETE", f"/vms/{vm['uuid']}", None, dry_run="true")
        else:
            fields = {
                "grow": {"cpu": 2, "memory": GIB},
                "attach": {"l3_network_uuid": site.network},
                "detach": {"nic_uuid": vm["nics"][0]["uuid"]},
            }.get(case.name, {})
            action = {"grow": "change-offering", "attach": "attach-nic", "detach": "detach-nic"}.get(
                case.name, case.name.partition(":")[0]
            )
            plan = site.cloud.call("POST", f"/vms/{vm['uuid']}/actions/{action}", fields, dry_run="true")
        assert plan["context"]["uuid"] == vm["uuid"]
        assert site.books() == before, case.name
        site.cloud.delete("vms", vm["uuid"], force=True)


def test_a_step_that_had_nothing_to_do_is_told_from_one_that_is_still_to_come(site: Site) -> None:
    vm = site.vm(start=False, l3_network_uuids=[])
    job = site.cloud.list("jobs", f"resource_uuid={vm['uuid']}")[0]
    steps = site.cloud.get("jobs", job["uuid"])["steps"]
    assert {step["name"]: step["state"] for step in steps} == {
        "reserve": "Done",
        "start on the host": "Skipped",
        "record": "Done",
    }
