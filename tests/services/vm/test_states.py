"""What may be asked of a VM in each state."""

from __future__ import annotations

from collections.abc import Callable

from mgmtnode.contracts.vm import VmState
from services.vm.state import ALLOWED, STEADY, TRANSITIONS
from tests.services.vm.site import GIB, Row, Site


def _created(site: Site) -> Row:
    return site.vm(host=0)


def _stopped(site: Site) -> Row:
    return site.vm(start=False)


def _paused(site: Site) -> Row:
    return site.act(site.vm(host=0), "pause")


def _crashed(site: Site) -> Row:
    vm = site.vm(host=0)
    site.fault(0, "crash-vm", vm_uuid=vm["uuid"])
    site.ping(0)
    return vm


def _destroyed(site: Site) -> Row:
    vm = site.vm(host=0)
    site.cloud.delete("vms", vm["uuid"])
    return vm


def _unknown(site: Site) -> Row:
    vm = site.vm(host=0)
    site.fault(0, "disconnect")
    site.ping(0)
    site.cloud.until(lambda: site.ping(0) or site.state(vm) == "Unknown")
    return vm


REACHED: dict[str, Callable[[Site], Row]] = {
    "Running": _created,
    "Stopped": _stopped,
    "Paused": _paused,
    "Crashed": _crashed,
    "Destroyed": _destroyed,
    "Unknown": _unknown,
}
ACTIONS = [name for name in ALLOWED if name != "destroy"]


def _fields(site: Site, vm: Row, action: str) -> dict[str, object]:
    return {
        "change-offering": {"cpu": 2, "memory": GIB},
        "attach-nic": {"l3_network_uuid": site.network},
        "detach-nic": {"nic_uuid": (site.get(vm)["nics"] or [{"uuid": site.zone}])[0]["uuid"]},
    }.get(action, {})


def test_what_a_state_forbids_is_refused_and_changes_nothing(site: Site) -> None:
    for state, reach in REACHED.items():
        vm = reach(site)
        assert site.state(vm) == state
        before = site.books()
        for action in ACTIONS:
            if state not in ALLOWED[action]:
                refused = site.refused(vm, action, **_fields(site, vm, action))
                assert (refused.status, refused.code) == (409, "vm.bad-state"), (state, action)
                assert refused.problem["details"]["state"] == state
        assert site.books() == before
        site.heal()
        site.cloud.until(
            lambda: site.ping(0) or site.cloud.get("hosts", site.host(0))["status"] == "Connected"
        )


def test_what_a_state_allows_is_done(site: Site) -> None:
    for state, reach in REACHED.items():
        if state == "Unknown":  # its host is out of reach, so what is allowed there is tried elsewhere
            continue
        for action in [*ACTIONS, "destroy"]:
            if state not in ALLOWED[action]:
                continue
            vm = reach(site)
            if action == "destroy":
                site.cloud.delete("vms", vm["uuid"])
            else:
                site.act(vm, action, **_fields(site, vm, action))
            site.books().check()
            assert site.books().drift() == [], (state, action)
            if not site.cloud.gone("vms", vm["uuid"]):
                site.cloud.delete("vms", vm["uuid"], force=True)


def test_starting_stopping_pausing_and_resuming_twice_is_success_and_changes_nothing(site: Site) -> None:
    vm = site.vm(host=0)
    for action, state in (
        ("start", "Running"),
        ("pause", "Paused"),
        ("pause", "Paused"),
        ("resume", "Running"),
        ("resume", "Running"),
        ("stop", "Stopped"),
        ("stop", "Stopped"),
    ):
        assert site.act(vm, action)["state"] == state
        site.books().check()
        assert site.books().drift() == []
    assert site.cloud.get("vms", vm["uuid"])["host_uuid"] is None


def test_whatever_a_job_that_was_given_up_left_can_be_destroyed() -> None:
    assert set(TRANSITIONS) - ALLOWED["destroy"] == {VmState.EXPUNGING}
    done = {VmState.DESTROYING, VmState.DESTROYED}
    assert all(VmState.DESTROYING in TRANSITIONS[state] for state in ALLOWED["destroy"] - done)


def test_no_state_is_a_dead_end() -> None:
    for state in STEADY:
        assert any(state in allowed for allowed in ALLOWED.values()) or TRANSITIONS[state]
    assert set(TRANSITIONS) == set(TRANSITIONS) | {s for states in TRANSITIONS.values() for s in states}
