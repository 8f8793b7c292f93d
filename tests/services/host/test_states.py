"""What operators want of hosts: enabled, disabled, in maintenance."""

from __future__ import annotations

import pytest

from mgmtnode.contracts.host import HostState
from mgmtnode.errors import ApiError, Category, ErrorCode
from services.host.state import Wish, after
from tests.services.host.conftest import Rack

STUCK = ErrorCode("test.stuck", Category.STATE, "a VM will not leave")
UUID = "00000000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("state", "wish", "expected"),
    [
        ("Enabled", "enable", "Enabled"),
        ("Enabled", "disable", "Disabled"),
        ("Enabled", "maintain", "PreMaintenance"),
        ("Disabled", "enable", "Enabled"),
        ("Disabled", "disable", "Disabled"),
        ("Disabled", "maintain", "PreMaintenance"),
        ("PreMaintenance", "maintained", "Maintenance"),
        ("Maintenance", "enable", "Enabled"),
        ("Maintenance", "maintain", "Maintenance"),
    ],
)
def test_a_wish_leads_to_its_state(state: str, wish: str, expected: str) -> None:
    assert after(UUID, HostState(state), Wish(wish)) == expected


@pytest.mark.parametrize(
    ("state", "wish", "allowed"),
    [
        ("Enabled", "maintained", ["disable", "enable", "maintain"]),
        ("PreMaintenance", "enable", []),
        ("PreMaintenance", "disable", []),
        ("PreMaintenance", "maintain", []),
        ("Maintenance", "disable", ["enable", "maintain"]),
    ],
)
def test_a_wish_that_is_not_allowed_names_those_that_are(state: str, wish: str, allowed: list[str]) -> None:
    with pytest.raises(ApiError) as refused:
        after(UUID, HostState(state), Wish(wish))
    assert refused.value.code == "host.bad-state"
    assert refused.value.problem.details == {"state": state, "allowed": allowed}


def test_disabling_and_enabling_are_idempotent(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    for action, state in (("disable", "Disabled"), ("disable", "Disabled"), ("enable", "Enabled")):
        assert rack.cloud.act("hosts", uuid, action)["state"] == state
    assert rack.script.calls.count(("connect", "h1")) == 1


def test_maintenance_frees_the_host_and_enabling_connects_it_again(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    assert rack.cloud.act("hosts", uuid, "maintain")["state"] == "Maintenance"
    assert rack.script.said("evacuate") == [(uuid, "PreMaintenance")]
    assert rack.cloud.act("hosts", uuid, "maintain")["state"] == "Maintenance"
    assert len(rack.script.said("evacuate")) == 1
    refused = rack.refused(lambda: rack.cloud.act("hosts", uuid, "disable"))
    assert (refused.status, refused.code) == (409, "host.bad-state")
    assert refused.problem["details"]["allowed"] == ["enable", "maintain"]
    rack.script.calls.clear()
    enabled = rack.cloud.act("hosts", uuid, "enable")
    assert (enabled["state"], enabled["status"]) == ("Enabled", "Connected")
    assert ("connect", "h1") in rack.script.calls


@pytest.mark.parametrize("before", ["enable", "disable"])
def test_a_host_that_cannot_be_freed_goes_back_to_its_state(rack: Rack, before: str) -> None:
    uuid = rack.add()["uuid"]
    state = rack.cloud.act("hosts", uuid, before)["state"]
    rack.script.fail["evacuate"] = STUCK.error()
    assert rack.refused(lambda: rack.cloud.act("hosts", uuid, "maintain")).code == STUCK.id
    assert rack.cloud.get("hosts", uuid)["state"] == state


def test_a_cancelled_evacuation_goes_back_to_the_state_before(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.script.hold.add("evacuate")
    job = rack.cloud.http.post(f"/v1/hosts/{uuid}/actions/maintain", json={}).json()
    rack.cloud.until(lambda: rack.script.said("evacuate"))
    assert rack.cloud.get("hosts", uuid)["state"] == "PreMaintenance"
    rack.cloud.request("POST", f"/jobs/{job['uuid']}/actions/cancel")
    rack.cloud.until(lambda: rack.cloud.get("hosts", uuid)["state"] == "Enabled")


def test_a_host_that_cannot_be_connected_stays_in_maintenance(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.cloud.act("hosts", uuid, "maintain")
    rack.script.down.add("h1")
    refused = rack.refused(lambda: rack.cloud.act("hosts", uuid, "enable"))
    assert (refused.status, refused.code) == (503, "host.not-connected")
    assert refused.problem["cause"]["code"] == "agent.unreachable"
    host = rack.cloud.get("hosts", uuid)
    assert (host["state"], host["status"]) == ("Maintenance", "Disconnected")
    rack.script.heal()
    assert rack.cloud.act("hosts", uuid, "enable")["status"] == "Connected"


def test_reconnecting_records_what_the_host_says_now(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.script.cpu = 16
    assert rack.cloud.act("hosts", uuid, "reconnect")["cpu"] == 16
    assert rack.script.said("capacity")[-1][1] == 16
    assert rack.events(uuid).count("host.connected") == 2


def test_a_reconnection_that_fails_says_why_and_leaves_the_host_disconnected(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.script.down.add("h1")
    refused = rack.refused(lambda: rack.cloud.act("hosts", uuid, "reconnect"))
    assert refused.code == "host.not-connected"
    assert "h1 does not answer" in refused.problem["detail"]
    assert rack.status(uuid) == "Disconnected"
    assert rack.events(uuid)[-1] == "host.disconnected"


def test_a_tenant_neither_adds_hosts_nor_sees_them(rack: Rack) -> None:
    uuid, tenant = rack.add()["uuid"], rack.cloud.tenant()
    assert tenant.list("hosts") == []
    assert rack.refused(lambda: tenant.act("hosts", uuid, "disable")).status == 403
    body = {"name": "x", "cluster_uuid": rack.cluster, "management_ip": "h2"}
    assert rack.refused(lambda: tenant.create("hosts", **body)).status == 403
