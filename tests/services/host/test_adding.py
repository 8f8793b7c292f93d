"""Adding hosts: what is refused, what is recorded, and that a failure leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from mgmtnode.agents.port import UNREACHABLE
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.testing.cloud import Refused
from tests.services.host.conftest import Rack
from tests.services.host.scripted import GIB

FULL = ErrorCode("test.full", Category.STATE, "the books are closed")


def test_a_host_is_added_connected_and_with_what_it_says_of_itself(rack: Rack) -> None:
    host = rack.add("h1", description="top of the rack", parameters={"port": 16509})
    assert (host["state"], host["status"]) == ("Enabled", "Connected")
    assert (host["cpu"], host["memory"], host["version"]) == (8, 64 * GIB, "1.0")
    assert (host["zone_uuid"], host["hypervisor"]) == (rack.zone, "scripted")
    assert host["parameters"] == {"port": 16509}
    assert rack.cloud.get("hosts", host["uuid"]) == host
    assert rack.events(host["uuid"]) == ["host.connected", "host.added"]
    assert rack.script.said("capacity") == [(host["uuid"], 8, 64 * GIB)]


def test_hosts_are_found_by_the_cluster_and_zone_they_are_in(rack: Rack) -> None:
    rack.add("h1")
    assert len(rack.cloud.list("hosts", "cluster.zone.name=west", "zone.name=west")) == 1
    assert [c["name"] for c in rack.cloud.list("clusters", "hosts.management_ip=h1")] == ["racks"]


def test_a_hypervisor_other_than_the_clusters_is_refused(rack: Rack) -> None:
    refused = rack.refused(lambda: rack.add("h1", hypervisor="kvm"))
    assert (refused.status, refused.code) == (400, "host.wrong-hypervisor")
    assert rack.add("h1", hypervisor="scripted")["hypervisor"] == "scripted"


def test_an_address_that_is_taken_is_refused_and_free_again_after_the_deletion(rack: Rack) -> None:
    host = rack.add("h1")
    refused = rack.refused(lambda: rack.add("h1", name="again"))
    assert (refused.status, refused.code, refused.problem["resource"]) == (
        409,
        "host.address-taken",
        host["uuid"],
    )
    rack.cloud.delete("hosts", host["uuid"])
    rack.add("h1")


def test_of_two_that_take_one_address_at_once_one_gets_it(rack: Rack) -> None:
    def attempt(name: str) -> str:
        try:
            return str(rack.add("h1", name=name)["name"])
        except Refused as refused:
            return refused.code

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, "abcd"))
    assert sorted(outcomes)[1:] == ["host.address-taken"] * 3 or outcomes.count("host.address-taken") == 3
    assert len(rack.cloud.list("hosts")) == 1


@pytest.mark.parametrize("address", ["", "two words", "-rf", "h1\n", "h1;reboot", "x" * 256])
def test_what_is_no_address_is_refused(rack: Rack, address: str) -> None:
    assert rack.refused(lambda: rack.add(address, name="h")).status == 400


def test_parameters_beyond_all_measure_are_refused(rack: Rack) -> None:
    refused = rack.refused(lambda: rack.add("h1", parameters={"x": "y" * 20_000}))
    assert (refused.status, refused.code) == (400, "host.bad-parameters")


def test_a_cluster_that_is_not_there_is_refused(rack: Rack) -> None:
    refused = rack.refused(lambda: rack.add("h1", cluster_uuid=rack.zone))
    assert (refused.status, refused.problem["details"]["field"]) == (404, "cluster_uuid")


def _unreachable(rack: Rack) -> None:
    rack.script.down.add("h1")


def _refuses(rack: Rack) -> None:
    rack.script.fail["connect"] = FULL.error()


def _breaks(rack: Rack) -> None:
    rack.script.crash.add("connect")


def _unbooked(rack: Rack) -> None:
    rack.script.fail["capacity"] = FULL.error()


def _known(rack: Rack) -> None:
    rack.script.identity["h1"] = "agent of h0"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (_unreachable, UNREACHABLE.id),
        (_refuses, FULL.id),
        (_breaks, "core.internal"),
        (_unbooked, FULL.id),
        (_known, "host.address-taken"),
    ],
)
def test_a_host_that_cannot_be_added_leaves_nothing_behind(
    rack: Rack, fault: Callable[[Rack], None], code: str
) -> None:
    before = rack.add("h0")
    fault(rack)
    assert rack.refused(lambda: rack.add("h1")).code == code
    assert [host["uuid"] for host in rack.cloud.list("hosts")] == [before["uuid"]]
    assert rack.cloud.list("cleanup-debts") == []
    assert rack.script.calls[-1] == ("disconnect", "h1")
    rack.script.heal()
    rack.add("h1")


def test_a_cancelled_addition_leaves_nothing_behind(rack: Rack) -> None:
    rack.script.hold.add("connect")
    body = {"name": "h1", "cluster_uuid": rack.cluster, "management_ip": "h1"}
    job = rack.cloud.http.post("/v1/hosts", json=body).json()
    rack.cloud.until(lambda: ("connect", "h1") in rack.script.calls)
    rack.cloud.request("POST", f"/jobs/{job['uuid']}/actions/cancel")
    rack.cloud.until(lambda: rack.cloud.get("jobs", job["uuid"])["state"] == "Cancelled")
    assert rack.cloud.list("hosts") == []
    assert rack.script.calls[-1] == ("disconnect", "h1")


def test_a_dry_run_adds_nothing(rack: Rack) -> None:
    body = {"name": "h1", "cluster_uuid": rack.cluster, "management_ip": "h1"}
    plan = rack.cloud.http.post("/v1/hosts", json=body, params={"dry_run": "true"}).json()
    assert plan["steps"] == ["save", "connect", "record facts"]
    assert (rack.cloud.list("hosts"), rack.script.calls) == ([], [])


def test_a_patch_may_move_a_host_to_a_free_address_only(rack: Rack) -> None:
    one, other = rack.add("h1"), rack.add("h2")
    refused = rack.refused(lambda: rack.cloud.update("hosts", one["uuid"], management_ip="h2"))
    assert (refused.code, refused.problem["resource"]) == ("host.address-taken", other["uuid"])
    changed = rack.cloud.update("hosts", one["uuid"], name="first", management_ip="h3")
    assert (changed["name"], changed["management_ip"]) == ("first", "h3")
    assert rack.cloud.update("hosts", one["uuid"], management_ip="h3")["management_ip"] == "h3"
