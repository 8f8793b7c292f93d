"""What failed undos left on hosts is removed as soon as the host can be asked, and only then handed out again."""

from __future__ import annotations

from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.db.session import Tx
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.jobs import ledger
from services.host.service import HostService
from tests.services.host.conftest import Rack

GONE = "00000000-0000-7000-8000-0000000000aa"
JOB = "00000000-0000-7000-8000-0000000000bb"
POOL = "00000000-0000-7000-8000-0000000000cc"
BUSY = ErrorCode("test.busy", Category.UNAVAILABLE, "the hypervisor is busy")


def owe(rack: Rack, resource: str, *hosts: str) -> None:
    """A job left something of ``resource`` on the hosts; 2 CPUs of each and an address are kept back for it."""

    def write(tx: Tx) -> None:
        for number, host in enumerate(hosts):
            ledger.set_pool(tx, host, "cpu", 8)
            uuid = f"00000000-0000-7000-8000-0000000000d{number}"
            assert ledger.reserve(tx, host, "cpu", 2, holder=resource, uuid=uuid)
        ledger.take_unit(tx, POOL, "ip", "10.0.0.5", holder=resource, uuid=JOB)
        ledger.quarantine(tx, resource)
        for host in hosts:
            ledger.owe(tx, host, resource, job_uuid=JOB, reason="destroy: the host did not answer")

    rack.cloud.write(write)


def used(rack: Rack, host: str) -> int:
    return rack.cloud.read(lambda tx: ledger.usage(tx, host, "cpu"))[0]


def units(rack: Rack) -> dict[str, str]:
    return rack.cloud.read(lambda tx: ledger.units(tx, POOL))


def collect(rack: Rack) -> None:
    rack.cloud.everywhere(HostService, lambda host: host.collector.collect())


def debts(rack: Rack) -> list[str]:
    return [str(debt["host_uuid"]) for debt in rack.cloud.list("cleanup-debts")]


def test_a_debt_is_shown_settled_and_gone(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    owe(rack, GONE, uuid)
    shown = rack.cloud.list("cleanup-debts")[0]
    assert (shown["host_uuid"], shown["resource_uuid"], shown["job_uuid"]) == (uuid, GONE, JOB)
    assert rack.cloud.get("cleanup-debts", shown["uuid"]) == shown
    collect(rack)
    assert [(where, c.action, c.vm.uuid) for where, c, _ in rack.script.commands] == [
        ("h1", VmAction.DESTROY, GONE)
    ]
    assert (debts(rack), used(rack, uuid), units(rack)) == ([], 0, {})


def test_the_host_is_commanded_in_turn_with_the_other_jobs_of_the_vm(rack: Rack) -> None:
    owe(rack, GONE, rack.add()["uuid"])
    collect(rack)
    (job,) = rack.cloud.list("jobs", "api=cleanup_debt.settle")
    assert (job["resource_uuid"], job["state"]) == (GONE, "Succeeded")
    (work,) = [work for _, _, work in rack.script.commands]
    assert (work.resource_uuid, work.job_uuid) == (GONE, job["uuid"])


def test_a_host_out_of_reach_is_not_asked_until_it_is_back(rack: Rack) -> None:
    host = rack.add()
    owe(rack, GONE, host["uuid"])
    rack.silence(host)
    collect(rack)
    assert (rack.script.commands, debts(rack), used(rack, host["uuid"])) == ([], [host["uuid"]], 2)
    assert units(rack) == {"10.0.0.5": "QUARANTINED"}
    rack.script.heal()
    rack.cloud.act("hosts", host["uuid"], "reconnect")
    collect(rack)
    assert debts(rack) == []


def test_a_settlement_that_fails_keeps_the_debt_and_is_tried_again(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.config("host.debt_interval", 1)
    owe(rack, GONE, uuid)
    rack.script.fail["perform"] = BUSY.error()
    collect(rack)
    assert (debts(rack), used(rack, uuid)) == ([uuid], 2)
    rack.script.heal()
    rack.cloud.until(lambda: not debts(rack))
    assert used(rack, uuid) == 0


def test_what_is_owed_by_two_hosts_is_kept_back_until_both_have_paid(rack: Rack) -> None:
    first, second = rack.add("h1"), rack.add("h2")
    owe(rack, GONE, first["uuid"], second["uuid"])
    rack.silence(second)
    collect(rack)
    assert (used(rack, first["uuid"]), used(rack, second["uuid"])) == (0, 2)
    assert units(rack) == {"10.0.0.5": "QUARANTINED"}
    rack.script.heal()
    rack.cloud.act("hosts", second["uuid"], "reconnect")
    collect(rack)
    assert (used(rack, second["uuid"]), units(rack)) == (0, {})


def test_a_resource_that_is_still_there_keeps_all_but_what_it_held_on_the_host(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    owe(rack, rack.zone, uuid)
    collect(rack)
    assert (used(rack, uuid), units(rack)) == (0, {"10.0.0.5": "LIVE"})


def test_a_host_that_is_deleted_owes_nothing_more(rack: Rack) -> None:
    host = rack.add()
    owe(rack, GONE, host["uuid"])
    rack.cloud.delete("hosts", host["uuid"], force=True)
    assert (debts(rack), units(rack)) == ([], {})


def test_a_debt_of_a_host_that_is_no_more_is_written_off(rack: Rack) -> None:
    owe(rack, GONE, POOL)
    collect(rack)
    assert (debts(rack), units(rack), rack.script.commands) == ([], {}, [])


def test_a_debt_that_was_settled_meanwhile_costs_no_command(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    owe(rack, GONE, uuid)
    collect(rack)
    rack.script.commands.clear()
    rack.settle(GONE, uuid)
    assert rack.script.commands == []
