"""Whatever a host does wrong in whatever step: the job says so, and nothing is left behind, or what is left is owed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.services.vm.books import Books
from tests.services.vm.site import GIB, Row, Site


@dataclass(frozen=True)
class Case:
    """``action`` on which host is what goes wrong; ``arrange`` makes the VM; ``go`` submits and waits."""

    name: str
    action: str
    go: Callable[[Site, Row], Row]
    host: int = 0
    start: bool = True
    paused: bool = False

    def arrange(self, site: Site) -> Row:
        if self.name == "create":
            return {}
        vm = site.vm(host=0, start=self.start)
        if self.paused:
            site.act(vm, "pause")
        return vm


def create(site: Site, vm: Row) -> Row:
    body = {
        "name": "new",
        "cpu": 1,
        "memory": GIB,
        "l3_network_uuids": [site.network],
        "host_uuid": site.host(0),
    }
    return site.run("POST", "/vms", body)


def action(name: str, **fields: Any) -> Callable[[Site, Row], Row]:
    return lambda site, vm: site.do(vm, name, **fields)


CASES = (
    Case("create", "start", create),
    Case("start", "start", lambda site, vm: site.do(vm, "start", host_uuid=site.host(0)), start=False),
    Case("stop", "stop", action("stop")),
    Case("reboot", "reboot", action("reboot")),
    Case("pause", "pause", action("pause")),
    Case("resume", "resume", action("resume"), paused=True),
    Case("destroy", "destroy", lambda site, vm: site.run("DELETE", f"/vms/{vm['uuid']}")),
    Case("expunge", "destroy", lambda site, vm: site.run("DELETE", f"/vms/{vm['uuid']}", force="true")),
    Case("grow", "resize", action("change-offering", cpu=2, memory=2 * GIB)),
    Case("attach", "attach_nic", lambda site, vm: site.do(vm, "attach-nic", l3_network_uuid=site.network)),
    Case("detach", "detach_nic", lambda site, vm: site.do(vm, "detach-nic", nic_uuid=vm["nics"][0]["uuid"])),
    Case("migrate: prepare", "prepare_migration", action("migrate"), host=1),
    Case("migrate: move", "migrate", action("migrate")),
)


UNDONE = ("create", "start", "attach", "migrate: prepare", "migrate: move")
IN_PLACE = ("grow", "attach", "detach")  # what nobody knows the end of is recorded as the more that it may be


def each(site: Site) -> Iterator[tuple[Case, Row, Books]]:
    """Every case, with its VM and the books before; hosts are healthy again, and empty, after each."""
    for case in CASES:
        vm = case.arrange(site)
        yield case, vm, site.books().quiet()
        site.heal()
        for row in site.cloud.list("vms"):
            site.cloud.delete("vms", row["uuid"], force=True)
        left = site.books()
        left.check()
        assert (left.vms, left.held, left.on_hosts) == ([], [], []), case.name


def same(before: Books, after: Books) -> bool:
    return before == after.quiet()


def test_a_command_that_fails_once_leaves_what_was_there_before(site: Site) -> None:
    for case, vm, before in each(site):
        site.fault(case.host, "fail", case.action, times=1)
        job = case.go(site, vm)
        assert (job["state"], job["error"]["code"]) == ("Failed", "hypervisor.failed"), case.name
        assert job["error"]["cause"]["code"] == "simulator.fault"
        assert same(before, site.books()), case.name
        assert site.books().drift() == [], case.name


def test_a_reply_that_is_lost_once_is_asked_for_again(site: Site) -> None:
    for case, vm, _ in each(site):
        site.fault(case.host, "lose-reply", case.action, times=1)
        assert case.go(site, vm)["state"] == "Succeeded", case.name
        site.books().check()
        assert site.books().drift() == [], case.name


def test_a_command_whose_replies_are_always_lost_is_undone_or_found_out_by_the_next_report(
    site: Site,
) -> None:
    for case, vm, before in each(site):
        site.fault(case.host, "lose-reply", case.action)
        job = case.go(site, vm)
        assert job["state"] == "Failed", case.name
        assert job["error"]["code"] == "agent.unreachable"
        site.heal()
        site.settle()
        site.ping()
        after = site.books()
        after.check()
        assert after.drift(exactly=case.name not in IN_PLACE) == [], case.name
        if case.name in UNDONE:
            assert same(before, after), case.name


@pytest.mark.parametrize("kind", ["hang", "disconnect", "fail"])
def test_what_cannot_be_undone_is_kept_back_until_the_host_is_well_again(site: Site, kind: str) -> None:
    for case, vm, before in each(site):
        site.fault(case.host, kind, "*")
        if case.name.startswith("migrate"):
            site.fault(1 - case.host, kind, "destroy")
        job = case.go(site, vm)
        assert job["state"] == "Failed", case.name
        assert job["error"]["code"] in ("hypervisor.failed", "agent.unreachable", "agent.timeout"), case.name
        owed = site.books()
        owed.check()
        if case.name in ("create", "start"):
            assert owed.debts and owed.kept_back, case.name
        site.heal()
        site.ping()
        site.ping()  # a VM that may be on either of two hosts is looked for on one after the other
        site.settle()
        site.ping()
        after = site.books()
        after.check()
        assert after.drift(exactly=case.name not in IN_PLACE) == [], case.name
        if case.name in ("create", "start"):
            assert same(before, after), case.name
