"""Debts of VMs on simulated hosts: what a failed start left behind goes, what lives there stays."""

from __future__ import annotations

from typing import Any

import pytest

from mgmtnode.db.session import Tx
from mgmtnode.jobs import ledger
from mgmtnode.testing.cloud import Cloud, Refused
from services.host.service import HostService

GIB = 1 << 30
JOB = "00000000-0000-7000-8000-0000000000bb"


@pytest.fixture
def host(cloud: Cloud) -> dict[str, Any]:
    zone = cloud.create("zones", name="west")["uuid"]
    cluster = cloud.create("clusters", name="racks", zone_uuid=zone, hypervisor="simulator")["uuid"]
    size = {"cpu": 8, "memory": 16 * GIB}
    return cloud.create("hosts", name="h1", cluster_uuid=cluster, management_ip="sim-debts", parameters=size)


def collect(cloud: Cloud) -> None:
    cloud.everywhere(HostService, lambda host: host.collector.collect())


def memory_used(cloud: Cloud, host_uuid: str) -> int:
    return int(cloud.call("GET", "/capacity", None, host_uuid=host_uuid)["memory_used"])


def fault(cloud: Cloud, host_uuid: str, **fault: Any) -> None:
    cloud.call("POST", f"/hosts/{host_uuid}/actions/simulate-fault", {"fault": fault})


def test_what_a_failed_creation_left_is_removed_and_its_memory_is_free_again(
    cloud: Cloud, host: dict[str, Any]
) -> None:
    cloud.config("job.undo_seconds", 1)
    fault(cloud, host["uuid"], kind="lose-reply", action="start", times=1)
    fault(cloud, host["uuid"], kind="fail", action="start")
    fault(cloud, host["uuid"], kind="fail", action="destroy")
    with pytest.raises(Refused):
        cloud.create("vms", name="vm", cpu=1, memory=GIB)
    if not cloud.list("cleanup-debts"):
        pytest.fail("the creation left no debt")
    assert memory_used(cloud, host["uuid"]) == GIB
    cloud.call("POST", f"/hosts/{host['uuid']}/actions/clear-faults", {})
    collect(cloud)
    assert cloud.list("cleanup-debts") == []
    assert memory_used(cloud, host["uuid"]) == 0


def test_a_vm_that_lives_on_the_host_survives_an_old_debt_of_its_own(
    cloud: Cloud, host: dict[str, Any]
) -> None:
    vm = cloud.create("vms", name="vm", cpu=1, memory=GIB)

    def owe(tx: Tx) -> None:
        ledger.quarantine(tx, vm["uuid"])
        ledger.owe(tx, host["uuid"], vm["uuid"], job_uuid=JOB, reason="an undo failed")

    cloud.write(owe)
    collect(cloud)
    assert cloud.list("cleanup-debts") == []
    assert cloud.get("vms", vm["uuid"])["state"] == "Running"
    assert memory_used(cloud, host["uuid"]) == GIB
    cloud.act("vms", vm["uuid"], "stop")
    assert memory_used(cloud, host["uuid"]) == 0


def test_a_vm_that_was_started_again_since_holds_its_memory_once(cloud: Cloud, host: dict[str, Any]) -> None:
    vm = cloud.create("vms", name="vm", cpu=1, memory=GIB)

    def owe(tx: Tx) -> None:
        ledger.quarantine(tx, vm["uuid"])
        ledger.owe(tx, host["uuid"], vm["uuid"], job_uuid=JOB, reason="an undo failed")

    cloud.write(owe)
    cloud.act("vms", vm["uuid"], "stop")
    assert memory_used(cloud, host["uuid"]) == GIB, "quarantined: nobody knows what is there"
    cloud.act("vms", vm["uuid"], "start")
    assert memory_used(cloud, host["uuid"]) == 2 * GIB
    collect(cloud)
    assert memory_used(cloud, host["uuid"]) == GIB
    assert cloud.get("vms", vm["uuid"])["state"] == "Running"


def test_a_vm_that_has_left_the_host_since_gets_nothing_of_it_back(
    cloud: Cloud, host: dict[str, Any]
) -> None:
    """The debt of its own host was paid while it lived there, the one of another host is paid when it is stopped."""
    size = {"cpu": 8, "memory": 16 * GIB}
    other = cloud.create(
        "hosts", name="h2", cluster_uuid=host["cluster_uuid"], management_ip="sim-debts-2", parameters=size
    )
    vm = cloud.create("vms", name="vm", cpu=1, memory=GIB, host_uuid=host["uuid"])

    def owe(tx: Tx) -> None:
        ledger.quarantine(tx, vm["uuid"])
        ledger.owe(tx, other["uuid"], vm["uuid"], job_uuid=JOB, reason="an undo failed")

    cloud.write(owe)
    cloud.act("vms", vm["uuid"], "stop")
    assert memory_used(cloud, host["uuid"]) == GIB
    collect(cloud)
    assert cloud.list("cleanup-debts") == []
    assert memory_used(cloud, host["uuid"]) == 0


def test_a_host_that_owes_is_not_deleted_unless_forced(cloud: Cloud, host: dict[str, Any]) -> None:
    """What it has not cleaned up may run there, with an address that would be handed out again."""
    vm = cloud.create("vms", name="vm", cpu=1, memory=GIB)
    cloud.act("vms", vm["uuid"], "stop")

    def owe(tx: Tx) -> None:
        ledger.owe(tx, host["uuid"], vm["uuid"], job_uuid=JOB, reason="an undo failed")

    cloud.write(owe)
    with pytest.raises(Refused) as refused:
        cloud.delete("hosts", host["uuid"])
    assert "host.owes" in str(refused.value)
    cloud.delete("hosts", host["uuid"], force=True)
    assert cloud.gone("hosts", host["uuid"]) and cloud.list("cleanup-debts") == []


def test_a_host_is_not_deleted_while_a_vm_comes_to_it(cloud: Cloud, host: dict[str, Any]) -> None:
    size = {"cpu": 8, "memory": 16 * GIB}
    other = cloud.create(
        "hosts", name="h2", cluster_uuid=host["cluster_uuid"], management_ip="sim-debts-2", parameters=size
    )
    vm = cloud.create("vms", name="vm", cpu=1, memory=GIB, host_uuid=host["uuid"])
    fault(cloud, host["uuid"], kind="hang", action="migrate")
    moving = cloud.http.post(f"/v1/vms/{vm['uuid']}/actions/migrate", json={"host_uuid": other["uuid"]})
    assert moving.status_code == 202
    cloud.until(lambda: memory_used(cloud, other["uuid"]) == GIB)
    with pytest.raises(Refused) as refused:
        cloud.delete("hosts", other["uuid"])
    assert refused.value.code == "core.in-use" and "on its way there (1)" in str(refused.value)
    cloud.call("POST", f"/hosts/{host['uuid']}/actions/clear-faults", {})
    cloud.until(lambda: cloud.get("vms", vm["uuid"])["host_uuid"] == other["uuid"])
    cloud.delete("hosts", other["uuid"])
    assert cloud.get("vms", vm["uuid"])["state"] == "Stopped"
