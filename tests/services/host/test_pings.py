"""Watching hosts: who falls silent, who comes back, and what they say they run."""

from __future__ import annotations

import pytest

from mgmtnode.contracts.hypervisor import VmOnHost, VmPower
from mgmtnode.errors import DATABASE_DOWN, DATABASE_SLOW, Category, ErrorCode
from services.host.repository import HostRecord
from services.host.service import HostService
from tests.services.host.conftest import Rack
from tests.services.host.scripted import vm_command

VM = "00000000-0000-7000-8000-0000000000aa"
LOST = ErrorCode("test.lost", Category.INTERNAL, "the listener has a bug")


def pings(rack: Rack, address: str = "h1") -> int:
    return rack.script.calls.count(("report", address))


def ping_and_wait(rack: Rack, uuid: str) -> None:
    before = pings(rack)
    rack.ping(uuid)
    rack.cloud.until(lambda: pings(rack) > before and not rack.service(uuid).watcher.rounds.visiting)


def test_a_host_that_answers_costs_no_write(rack: Rack) -> None:
    host = rack.add()
    for _ in range(3):
        ping_and_wait(rack, host["uuid"])
    assert rack.cloud.get("hosts", host["uuid"]) == host
    assert rack.events(host["uuid"]) == ["host.connected", "host.added"]


def test_a_host_counts_as_disconnected_after_failed_pings_in_a_row(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.config("host.ping_failures", 100)
    rack.script.down.add("h1")
    ping_and_wait(rack, uuid)
    ping_and_wait(rack, uuid)
    assert rack.service(uuid).watcher.failures(uuid) >= 2
    rack.script.heal()
    ping_and_wait(rack, uuid)
    assert (rack.service(uuid).watcher.failures(uuid), rack.status(uuid)) == (0, "Connected")
    rack.config("host.ping_failures", 3)
    rack.script.down.add("h1")
    rack.ping(uuid)
    rack.cloud.until(lambda: rack.status(uuid) == "Disconnected")
    assert rack.events(uuid)[-1] == "host.disconnected"
    assert rack.service(uuid).watcher.failures(uuid) >= 3


def test_a_host_that_is_silent_within_the_timeout_has_failed_the_ping(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.config("host.ping_timeout", 1)
    rack.config("host.ping_failures", 1)
    rack.script.hold.add("report")
    rack.ping(uuid)
    rack.cloud.until(lambda: rack.status(uuid) == "Disconnected")


def test_a_host_that_is_back_is_connected_by_itself(rack: Rack) -> None:
    host = rack.add()
    rack.silence(host)
    rack.script.heal()
    rack.ping(host["uuid"])
    its = ("api=host.reconnect", f"resource_uuid={host['uuid']}")
    rack.cloud.until(lambda: [job["state"] for job in rack.cloud.list("jobs", *its)] == ["Succeeded"])
    assert rack.status(host["uuid"]) == "Connected"
    assert rack.events(host["uuid"])[-1] == "host.connected"


def test_a_host_that_is_back_waits_for_its_operator_where_that_is_wanted(rack: Rack) -> None:
    host = rack.add()
    rack.config("host.auto_reconnect", False)
    rack.silence(host)
    rack.script.heal()
    ping_and_wait(rack, host["uuid"])
    assert rack.status(host["uuid"]) == "Disconnected"
    assert rack.cloud.act("hosts", host["uuid"], "reconnect")["status"] == "Connected"


def test_a_host_where_another_agent_answers_is_connected_again(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.script.identity["h1"] = "a new disk"
    rack.ping(uuid)
    rack.cloud.until(lambda: rack.events(uuid).count("host.connected") == 2)
    ping_and_wait(rack, uuid)
    assert rack.events(uuid).count("host.connected") == 2


def test_the_vms_of_a_silent_host_are_unknown_after_a_while_and_once(rack: Rack) -> None:
    host = rack.add()
    rack.config("host.unknown_after", 1)
    rack.silence(host)
    rack.cloud.until(lambda: rack.script.said("unknown"))
    ping_and_wait(rack, host["uuid"])
    assert rack.script.said("unknown") == [host["uuid"]]
    rack.script.heal()
    rack.ping(host["uuid"])
    rack.cloud.until(lambda: rack.status(host["uuid"]) == "Connected")
    ping_and_wait(rack, host["uuid"])
    rack.script.heard.clear()
    rack.silence(host)
    rack.cloud.until(lambda: rack.script.said("unknown") == [host["uuid"]])


def test_a_silence_that_a_listener_could_not_take_is_told_again(
    rack: Rack, caplog: pytest.LogCaptureFixture
) -> None:
    uuid = rack.add()["uuid"]
    rack.config("host.unknown_after", 1)
    rack.script.fail["vms_unknown"] = DATABASE_DOWN.error("no connection", retry_after=1.0)
    rack.silence(rack.cloud.get("hosts", uuid))
    rack.cloud.until(lambda: "that it is silent is told again" in caplog.text)
    assert "Traceback" not in caplog.text and rack.script.said("unknown") == []
    del rack.script.fail["vms_unknown"]
    rack.ping(uuid)
    rack.cloud.until(lambda: rack.script.said("unknown") == [uuid])


def test_what_runs_on_a_host_is_told_when_it_changes_and_after_commands(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    ping_and_wait(rack, uuid)
    ping_and_wait(rack, uuid)
    assert rack.script.said("vms") == [(uuid, [])]
    rack.script.vms["h1"] = [VmOnHost(uuid=VM, power=VmPower.RUNNING)]
    ping_and_wait(rack, uuid)
    ping_and_wait(rack, uuid)
    assert rack.script.said("vms") == [(uuid, []), (uuid, [VM])]
    rack.cloud.ask(vm_command(uuid, VM))
    ping_and_wait(rack, uuid)
    ping_and_wait(rack, uuid)
    assert rack.script.said("vms") == [(uuid, []), (uuid, [VM]), (uuid, [VM])]


def test_a_report_that_a_listener_could_not_take_is_told_again(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.script.crash.add("vms_reported")
    ping_and_wait(rack, uuid)
    rack.script.heal()
    ping_and_wait(rack, uuid)
    assert rack.script.said("vms") == [(uuid, [])]


def test_reconnecting_tells_what_runs_there(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.script.vms["h1"] = [VmOnHost(uuid=VM, power=VmPower.RUNNING)]
    rack.cloud.act("hosts", uuid, "reconnect")
    assert rack.script.said("vms") == [(uuid, [VM])]


def test_what_runs_on_a_host_in_maintenance_is_nobodys_business(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.cloud.act("hosts", uuid, "maintain")
    rack.script.vms["h1"] = [VmOnHost(uuid=VM, power=VmPower.RUNNING)]
    ping_and_wait(rack, uuid)
    assert rack.script.said("vms") == []


def test_a_host_in_maintenance_may_be_switched_off_and_on(rack: Rack) -> None:
    host = rack.add()
    rack.cloud.act("hosts", host["uuid"], "maintain")
    rack.silence(host)
    rack.script.heal()
    ping_and_wait(rack, host["uuid"])
    assert rack.status(host["uuid"]) == "Disconnected"
    assert rack.script.said("unknown") == []
    assert rack.cloud.act("hosts", host["uuid"], "enable")["status"] == "Connected"


def test_a_host_that_moves_to_another_address_is_asked_there_at_once(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.script.identity["h9"] = "agent of h1"
    rack.cloud.update("hosts", uuid, management_ip="h9")
    rack.cloud.until(lambda: pings(rack, "h9") > 0)
    assert rack.status(uuid) == "Connected"


def test_when_hosts_were_last_seen_is_written_in_one_go(rack: Rack) -> None:
    host = rack.add()
    ping_and_wait(rack, host["uuid"])
    rack.cloud.everywhere(HostService, lambda host: host.watcher.write_seen())
    seen = rack.cloud.get("hosts", host["uuid"])
    assert seen["last_seen_at"] > host["last_seen_at"]
    assert seen["updated_at"] == host["updated_at"]


def test_a_shorter_interval_counts_at_once(rack: Rack) -> None:
    rack.config("host.ping_interval", 3600)
    uuid = rack.add("h1")["uuid"]
    rack.cloud.until(lambda: rack.watched(uuid))
    rack.config("host.ping_interval", 1)
    rack.cloud.until(lambda: pings(rack) > 1)


def test_a_database_that_is_away_while_hosts_are_taken_over_only_puts_it_off(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.cloud.until(lambda: rack.watched(uuid))
    watcher = rack.service(uuid).watcher
    load, away = watcher._known.load, [DATABASE_DOWN.error("no connection"), DATABASE_SLOW.error("slow")]

    async def failing() -> list[HostRecord]:
        if away:
            raise away.pop()
        return await load()

    watcher._known.load = failing  # type: ignore[method-assign]
    watcher.drop(uuid)
    rack.cloud.everywhere(HostService, lambda host: _look(host))
    rack.cloud.until(lambda: rack.watched(uuid))
    assert not away


async def _look(host: HostService) -> None:
    host.watcher.look()


def test_a_deleted_host_is_not_watched_any_more(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.cloud.until(lambda: rack.watched(uuid))
    rack.cloud.delete("hosts", uuid)
    rack.cloud.until(lambda: not rack.watched(uuid))


@pytest.mark.parametrize("state", ["Connected", "Disconnected"])
def test_a_node_that_starts_connects_its_hosts_without_waiting_for_them(rack: Rack, state: str) -> None:
    host = rack.add()
    if state == "Disconnected":
        rack.silence(host)
    rack.script.calls.clear()
    rack.script.hold.add("connect")  # before it is heard of again: else it is connected before the restart
    rack.script.down.clear()
    rack.restart()
    assert rack.status(host["uuid"]) in (state, "Connecting")
    rack.cloud.until(lambda: ("connect", "h1") in rack.script.calls)
    assert rack.cloud.http.get("/readyz").status_code == 200
    rack.script.heal()
    rack.cloud.until(lambda: rack.status(host["uuid"]) == "Connected")
    before = rack.events(host["uuid"]).count("host.connected")
    assert before == (2 if state == "Disconnected" else 1)


def test_a_host_that_changed_while_no_node_ran_is_taken_in_anew(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.script.cpu = 32
    rack.restart()
    rack.cloud.until(lambda: rack.cloud.get("hosts", uuid)["cpu"] == 32)
    assert rack.script.said("capacity")[-1][1] == 32
